"""Kernels for the pages, forked from one process that holds the libraries.

A kernel that starts from nothing spends more time on importing torch, matplotlib, scipy and xarray
than most pages spend on what they show. Here a server imports them once, and each page gets a fork
of it: a process of its own, in which nothing of another page has run.
"""

from __future__ import annotations

import multiprocessing
import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

NAME = "forked"
INLINE = "module://matplotlib_inline.backend_inline"
_SERVER = multiprocessing.get_context("forkserver")


def run_kernel(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """Be a kernel until it is shut down. Runs in the fork."""
    import matplotlib
    from ipykernel.kernelapp import IPKernelApp

    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    # What matplotlib takes from the environment of a new kernel, where it is imported later.
    matplotlib.rcParams["backend"] = INLINE
    # A kernel ends with its parent, here the server.
    IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])


class Fork:
    """A fork with the face of :class:`subprocess.Popen`, as provisioners expect it."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], cwd: str, env: dict[str, str]) -> None:
        self._process = _SERVER.Process(target=run_kernel, args=(arguments, cwd, env), daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Wait for its end, and return the exit code."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()


class ForkedProvisioner(LocalProvisioner):
    """Starts a kernel as a fork of the server in place of a new interpreter."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork a kernel that takes the arguments after ``python -m ipykernel_launcher``."""
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        self.process = Fork(arguments, str(kwargs.get("cwd") or os.getcwd()), kwargs["env"])
        # The fork is in the process group of the build: signals go to it alone.
        self.pid, self.pgid = self.process.pid, None
        return self.connection_info


def setup(app: Any) -> dict[str, bool]:
    """Make forks the kernels of this build. The server of a process starts with its first page."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # where the server finds what it holds
    _SERVER.set_forkserver_preload(["held_libraries"])
    factory = KernelProvisionerFactory.instance()
    group = KernelProvisionerFactory.GROUP_NAME
    factory.provisioners[NAME] = EntryPoint(NAME, f"{__name__}:ForkedProvisioner", group)
    factory.default_provisioner_name = NAME
    return {"parallel_read_safe": True, "parallel_write_safe": True}
