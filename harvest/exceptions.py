"""What can go wrong in the harvest, one class a failure."""


class HarvestError(Exception):
    """The common parent."""


class CronUnknown(HarvestError):
    """No cron has that name."""


class RunUnderWay(HarvestError):
    """A run of the cron is under way, which says where it goes on."""


class RunStopped(HarvestError):
    """The quota ended a run after some of its work; the message says which limit."""


class LedgerWrong(HarvestError):
    """A day's ledger does not equal what its rows sum up to; the message says where."""


class RunLost(HarvestError):
    """The run's lease went to another one: it may do no more."""


class FailedTooOften(HarvestError):
    """ISBNdb failed at one thing after the other: the run leaves it alone."""
