"""What can go wrong in the harvest, one class per failure."""


class HarvestError(Exception):
    """The common parent."""


class CronUnknown(HarvestError):
    """There is no cron with this name."""


class RunUnderWay(HarvestError):
    """A run of the cron is in progress, and only this run may move the cursor."""


class RunStopped(HarvestError):
    """The quota ended a run early; the message names the limit."""


class LedgerWrong(HarvestError):
    """The ledger of a day is not the sum of its rows; the message says where."""


class RunLost(HarvestError):
    """The run lost its lease: it must not continue."""


class FailedTooOften(HarvestError):
    """ISBNdb failed several times in a row: the run sends no more."""
