"""The process of one run: load the function, wait until it is due, call it; or become the command.

A script, started by path, so that nothing of Penstock is imported: every run pays for what is imported here. What to
do comes as one JSON object on stdin; an empty stdin means that the worker has died meanwhile, then nothing is done.
What happens goes as JSON lines into the pipe whose number is the first argument: ``{"said": "started", "at_ms":
...}``, then ``completed`` or ``failed`` with a ``message``.
"""

from __future__ import annotations

import json
import os
import sys
import time

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_MAX_MESSAGE = 10_000
_MACHINERY = (__file__, "<frozen importlib._bootstrap_external>", "<frozen importlib._bootstrap>")


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the worker's ends (Linux); the guardian does it for grandchildren too."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only where it is used

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Progress:
    """The pipe to the worker."""

    def __init__(self, pipe: int) -> None:
        # Not for grandchildren, and closed by exec.
        os.set_inheritable(pipe, False)  # noqa: FBT003 - positional only
        self._pipe = pipe

    def say(self, said: str, message: str = "") -> None:
        """Write one line."""
        clean = message[:_MAX_MESSAGE].encode(errors="replace").decode()
        line = json.dumps({"said": said, "at_ms": time.time_ns() // 1_000_000, "message": clean}).encode() + b"\n"
        while line:
            line = line[os.write(self._pipe, line) :]

    def fail(self, message: str, problem: BaseException | None = None) -> None:
        """Say why the run failed, show the traceback on stderr, end the process."""
        self.say("failed", message)
        if problem is not None:
            import traceback  # noqa: PLC0415 - costs more than everything above

            trace = problem.__traceback__
            while trace and trace.tb_frame.f_code.co_filename in _MACHINERY:
                trace = trace.tb_next
            traceback.print_exception(type(problem), problem, trace)
        else:
            print(message, file=sys.stderr)  # noqa: T201 - the run's own output
        sys.exit(1)


def word(problem: BaseException) -> str:
    """Spell an exception as its traceback's last line would."""
    try:
        text = str(problem)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        text = "<exception str() failed>"
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


def load(path: str, function: str, progress: Progress) -> object:
    """Import a file under its own name and find the function in it."""
    import importlib.machinery  # noqa: PLC0415 - a command needs none of it
    import importlib.util  # noqa: PLC0415 - the same

    if not os.path.isfile(path):  # noqa: PTH113 - pathlib costs 5 ms
        progress.fail(
            f"Entrypoint {path}:{function} does not exist: no such file (worker's host: {os.uname().nodename})"
        )
    sys.path.insert(0, os.path.dirname(path))  # noqa: PTH120
    sys.argv = [path]
    stem = os.path.basename(path).partition(".")[0]  # noqa: PTH119
    # A file called json.py must not become everybody's `json`.
    name = f"flow_{stem}" if stem in sys.modules or stem in sys.stdlib_module_names else stem
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        progress.fail(f"Cannot load {path}")
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - whatever the file does
        progress.fail(f"Cannot load {path}: {word(problem)}", problem)
    found = getattr(module, function, None)
    if not callable(found):
        progress.fail(f"Entrypoint {path}:{function} does not exist: {path} has no function {function!r}")
    return found


def wait_until(start_at: float) -> None:
    """Wait for the scheduled time, given by the machine's monotonic clock."""
    while (left := start_at - time.monotonic()) > 0:
        time.sleep(min(left, 3600.0))


def call(function: object, parameters: dict[str, object]) -> None:
    """Call a plain or an async function; of a generator function everything is executed."""
    result = function(**parameters)  # type: ignore[operator]
    if hasattr(result, "gi_frame"):
        for _ in result:
            pass
    elif hasattr(result, "__await__") or hasattr(result, "ag_frame"):
        import asyncio  # noqa: PLC0415 - 40 ms that plain functions need not pay

        async def whole() -> None:
            if hasattr(result, "__await__"):
                await result
            else:
                async for _ in result:
                    pass

        asyncio.run(whole())


def run_function(job: dict[str, object], progress: Progress) -> None:
    """Run the function of an entrypoint."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    function = load(str(job["path"]), str(job["function"]), progress)
    wait_until(float(job["start_at"]))  # type: ignore[arg-type]
    progress.say("started")
    try:
        call(function, job["parameters"])  # type: ignore[arg-type]
    except Exception as problem:  # noqa: BLE001 - whatever the function does
        trace = problem.__traceback__
        if isinstance(problem, TypeError) and trace and trace.tb_next and trace.tb_next.tb_next is None:
            # Raised by the call itself: no frame of the function was ever entered.
            progress.fail(f"The parameters do not fit {job['path']}:{job['function']}: {problem}")
        progress.fail(f"Flow run encountered an exception: {word(problem)}", problem)
    progress.say("completed")


def run_command(job: dict[str, object], progress: Progress) -> None:
    """Become the command."""
    import signal  # noqa: PLC0415 - a plain function needs none of it

    wait_until(float(job["start_at"]))  # type: ignore[arg-type]
    # Python ignores these two at its start; the command shall find the defaults.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    command: list[str] = job["command"]  # type: ignore[assignment]
    progress.say("started")
    try:
        os.execvp(command[0], command)  # noqa: S606 - without a shell, on purpose
    except FileNotFoundError:
        progress.fail(f"Command not found: {command[0]!r} (PATH={os.environ.get('PATH', '')})")
    except (OSError, ValueError) as problem:
        progress.fail(f"Command {command[0]!r} cannot be executed: {getattr(problem, 'strerror', None) or problem}")


def main() -> None:
    """Do what stdin says."""
    progress = Progress(int(sys.argv[1]))
    die_with(int(sys.argv[2]))
    text = sys.stdin.buffer.read()
    if not text:
        return
    job = json.loads(text)
    (run_command if job["command"] else run_function)(job, progress)


if __name__ == "__main__":
    main()
