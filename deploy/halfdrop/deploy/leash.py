"""Run a program that dies with its parent: `python -I -S leash.py PARENT_PID PROGRAM [ARGUMENT …]`.

Linux sends a process the signal of its choice when its parent ends, however that ended: a supervisor killed with
SIGKILL leaves no orphans. The wish has to be made in the child; making it in this short program, instead of in a
`preexec_fn`, needs no fork of a process that has threads. It imports the standard library only and is run by path.

The signal is SIGKILL: a child that would finish its work first would do so beside the servers of the next start. All
parts survive a kill; the chaos tests hold them to it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>. Kept across exec; cleared on fork, so it binds this one process."""


def main() -> None:
    """Become PROGRAM. Exits with 125 if the parent is gone already or the wish cannot be made."""
    parent_pid, argv = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(125)
    if os.getppid() != parent_pid:  # the parent ended before the wish was made
        sys.exit(125)
    os.execv(argv[0], argv)  # noqa: S606  # the argument list is ours


if __name__ == "__main__":
    main()
