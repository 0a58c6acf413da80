"""The command `sweeps`, and `python -m sweeps`."""

from sweeps.hash_seed import start_again_with_hash_seed


def main() -> None:
    """Run the command line in a process with a fixed hash seed."""
    start_again_with_hash_seed()  # before the imports, which then happen only once
    from sweeps.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
