"""How a bulk harvest ends early: the message for people, and the exit code."""

EXIT_CANNOT, EXIT_QUOTA, EXIT_FAILED, EXIT_ANOTHER, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


class CannotGoOn(Exception):
    """The harvest cannot start or continue. `code`: the exit code of the command."""

    def __init__(self, message: str, *, code: int = EXIT_CANNOT) -> None:
        self.code = code
        super().__init__(message)


def already_begun(label: str, job: object) -> CannotGoOn:
    """The list has a job that has stopped: the user must choose between resume and restart."""
    return CannotGoOn(
        f"The harvest of {label} was started before (job {job}) and has stopped. "
        "--resume continues it, --restart starts again from the beginning."
    )


def already_finished(message: str) -> CannotGoOn:
    """The list is done, and asking again costs as much again."""
    return CannotGoOn(f"{message} --again does it.")
