"""How Ray is started, without starting it."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from ray._private import services

from sweeps.driver import cluster

STARTS_ANOTHER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has the process server")
def test_sigterm_ends_none_of_rays_processes_and_their_end_ends_what_they_started():
    with cluster._outlasting_sigterm():
        service = services.ConsolePopen(
            [sys.executable, "-c", STARTS_ANOTHER], stdout=subprocess.PIPE, text=True
        )
    child = psutil.Process(int(service.stdout.readline()))
    assert os.getsid(service.pid) == service.pid, "Ctrl-C in the terminal is not for it"
    for pid in (service.pid, child.pid):
        os.kill(pid, signal.SIGTERM)
    assert service.poll() is None
    assert child.is_running()
    service.terminate()
    assert service.wait(10) == -signal.SIGKILL, "SIGTERM is blocked"
    child.wait(10)
    service.stdout.close()
    assert services.ConsolePopen is not cluster._Service
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
