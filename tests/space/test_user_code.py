from pathlib import Path

from sweeps.space.user_code import is_own


def test_what_pip_installs_into_a_folder_is_not_the_users_own(tmp_path: Path):
    """`pip install --target` beside a script, as people do for a cluster."""
    info = tmp_path / "parser-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: parser\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        "parser/core/read.py,,\nalone.py,,\nbin/parse.py,,\n../../bin/parse,,\n"
    )
    assert not is_own(str(tmp_path / "parser" / "core" / "read.py"))
    assert not is_own(str(tmp_path / "alone.py"))
    assert is_own(str(tmp_path / "train.py"))
    assert is_own(str(tmp_path / "bin" / "train.py")), "in a folder where pip has also put files"
    assert is_own(str(tmp_path / "helpers" / "parser" / "read.py"))
