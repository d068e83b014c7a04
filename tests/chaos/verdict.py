"""What must be true afterwards, in the database of the service and at ISBNdb."""

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from django.db.models import Count, QuerySet, Sum

from alexandria.development.sandbox import answers, catalogue
from alexandria.development.sandbox.server import Sandbox
from enrichment.books.decoding import decode_books
from enrichment.books.fields import COLUMNS, Book
from enrichment.books.match_keys import name_key
from enrichment.models import Edition, Job, JobItem, Miss, QueuedIsbn
from harvest.models import HarvestRun
from quota.models import Call, DailyLedger, Reservation
from quota.selectors.status import check_ledger
from tests.chaos.load import Promises

SHOWN = 5
"""Examples in a message."""

MAY_NOT_HAVE_ARRIVED = (Call.Outcome.UNKNOWN, Call.Outcome.NOT_SENT)


class Verdict:
    """What was found: `right` has a line for each thing that is as it must be, `wrong` for each that is not."""

    def __init__(self) -> None:
        self.right: list[str] = []
        self.wrong: list[str] = []

    def say(self, text: str, wrong: Iterable[object] = ()) -> None:
        """`text` says what must be true, with figures. `wrong`: everything that contradicts it."""
        found = [str(each) for each in wrong]
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            self.wrong.append(f"{text}. Wrong: {'; '.join(found[:SHOWN])}{more}")
        else:
            self.right.append(text)


def not_quiet() -> list[str]:
    """What is still under way: nothing, when everything has ended."""
    waiting = QueuedIsbn.objects.filter(attempts__lt=8).count()
    jobs = Counter(Job.objects.filter(ended_at=None).values_list("state", flat=True))
    found = {
        "reservations are open": Reservation.objects.filter(state="open").count(),
        "ISBNs wait in the queue": waiting,
        "crons run": HarvestRun.objects.filter(outcome="running").exclude(cron="queue-flush").count(),
        **{f"jobs are {state}": count for state, count in jobs.items()},
    }
    return [f"{count} {what}" for what, count in found.items() if count]


def judge(sandbox: Sandbox, promises: Promises, on_their_way: Mapping[int, int]) -> Verdict:
    """Compares what we have with what ISBNdb has seen. `on_their_way`: see Observer."""
    verdict = Verdict()
    _judge_ledgers(verdict, sandbox, on_their_way)
    _judge_requests(verdict, sandbox)
    _judge_jobs(verdict, promises)
    _judge_books(verdict)
    verdict.say(f"No answer was unexpected: {_counted(promises.answers)}", promises.unexpected)
    return verdict


def _judge_ledgers(verdict: Verdict, sandbox: Sandbox, on_their_way: Mapping[int, int]) -> None:
    counted: Counter[str] = Counter()
    for request in sandbox.requests:
        counted[_day(request["at"])] += request["price"]
    for ledger in DailyLedger.objects.order_by("day"):
        day, rows = str(ledger.day), Call.objects.filter(ledger=ledger)
        # When GET /key says "daily limit reached", it also raises ours to that limit: calls that nobody has made.
        raised = _prices(rows.filter(outcome=Call.Outcome.EXTERNAL)) if ledger.closed_at else 0
        used = ledger.used - raised
        over = used - counted[day]
        lost = _prices(rows.filter(outcome=Call.Outcome.UNKNOWN))
        not_sent = _prices(rows.filter(outcome=Call.Outcome.NOT_SENT))
        verdict.say(f"{day}: ISBNdb counted {counted[day]} calls, we {used}: never under", [over] * (over < 0))
        verdict.say(
            f"{day}: over by {max(0, over)}, at most the price of what was on its way at a kill or an outage ({lost}), "
            f"or not sent in time ({not_sent})",
            [over] * (over > lost + not_sent),
        )
        most = _most_in_a_second(rows.filter(share_of=None, reservation__isnull=False))
        verdict.say(f"{day}: {most} send times in a second, at most {ledger.max_rps}", [most] * (most > ledger.max_rps))
        verdict.say(f"{day}: nothing is reserved", [ledger.reserved] * (ledger.reserved != 0))
        verdict.say(f"{day}: the ledger is the sum of its journal", check_ledger(ledger.day))
    lost_rows = dict(Call.objects.filter(outcome=Call.Outcome.UNKNOWN).values_list("pk", "calls"))
    verdict.say(
        f"Each of the {len(lost_rows)} requests without an outcome was on its way at a kill or an outage",
        lost_rows.keys() - on_their_way.keys(),
    )
    verdict.say(
        "ISBNdb counted no day without a ledger", counted.keys() - {str(each.day) for each in DailyLedger.objects.all()}
    )
    verdict.say("No reservation is open", Reservation.objects.filter(state="open"))


def _judge_requests(verdict: Verdict, sandbox: Sandbox) -> None:
    """Nothing reached ISBNdb without a row in the journal, and all rows with an answer did."""
    arrived: Counter[tuple[str, ...]] = Counter()
    for request in sandbox.requests:
        path = f"{request['path']}?{request['query']}" if request["query"] else request["path"]
        arrived[_day(request["at"]), request["method"], path, str(request["asked"])] += 1
    ours: Counter[tuple[str, ...]] = Counter()
    answered: Counter[tuple[str, ...]] = Counter()
    rows = Call.objects.filter(share_of=None, reservation__isnull=False)
    for day, method, path, asked, outcome in rows.values_list("ledger", "method", "path", "isbns_asked", "outcome"):
        key = (str(day), method, path, str(asked))
        ours[key] += 1
        answered[key] += outcome not in MAY_NOT_HAVE_ARRIVED
    verdict.say(f"Each of ISBNdb's {arrived.total()} requests is in the journal", arrived - ours)
    verdict.say(f"Each of the {answered.total()} rows with an outcome reached ISBNdb", answered - arrived)


def _judge_jobs(verdict: Verdict, promises: Promises) -> None:
    jobs = {str(job.pk): job for job in Job.objects.all()}
    states = Counter(f"{job.state} {job.stopped_reason}".strip() for job in jobs.values())
    verdict.say(f"Each of the {len(promises.jobs)} accepted jobs is there", promises.jobs - jobs.keys())
    verdict.say(
        f"Each of the {len(jobs)} jobs has ended: {_counted(states)}",
        [f"job {job.pk} is {job.state}" for job in jobs.values() if job.ended_at is None],
    )
    verdict.say(
        "No job that succeeded has pending items",
        JobItem.objects.filter(job__state="succeeded", state="pending").values_list("job_id", "isbn13"),
    )
    stored = set(Edition.objects.values_list("isbn13", flat=True))
    done = set(JobItem.objects.filter(state__in=["enriched", "already_fresh"]).values_list("isbn13", flat=True))
    verdict.say(f"Each of the {len(done)} ISBNs that jobs have enriched is stored", done - stored)
    verdict.say(f"Each of the {len(promises.stored)} ISBNs that clients got is stored", promises.stored - stored)
    misses = set(Miss.objects.values_list("isbn13", flat=True))
    failed = set(QueuedIsbn.objects.values_list("isbn13", flat=True))
    verdict.say(
        f"Each of the {len(promises.queued)} queued ISBNs is stored, known to be unknown, or shown as failed",
        promises.queued - stored - misses - failed,
    )
    verdict.say(
        f"ISBNdb knows none of the {len(misses)} ISBNs remembered as unknown",
        [isbn for isbn in misses if catalogue.find(isbn)],
    )


def _judge_books(verdict: Verdict) -> None:
    """Every stored book is whole: as ISBNdb would send it, in each column, with its authors and its work."""
    books = Edition.objects.select_related("work").prefetch_related("author_links__author")
    count = Edition.objects.count()
    verdict.say(f"Each of the {count} stored books is whole", (name for each in books for name in _faults(each)))
    works = Edition.objects.aggregate(works=Count("work", distinct=True))["works"]
    verdict.say(f"They are editions of {works} works", ["none"] * (count > 0 and works == 0))


def _faults(edition: Edition) -> Iterator[str]:
    found = catalogue.find(edition.isbn13)
    if found is None:
        yield f"{edition.isbn13} is stored, and ISBNdb does not know it"
        return
    [book] = decode_books(json.dumps({"data": [answers.book_json(found)]}).encode(), key="data").books
    for name in COLUMNS:
        wanted = json.loads(book.raw) if name == "raw" else getattr(book, name)
        if getattr(edition, name) != wanted:
            yield f"{edition.isbn13}: {name} is {getattr(edition, name)!r:.60}, not {wanted!r:.60}"
    if _author_keys(edition) != _wanted_keys(book):
        yield f"{edition.isbn13}: its authors are {_author_keys(edition)}, not {_wanted_keys(book)}"


def _author_keys(edition: Edition) -> list[str]:
    return [link.author.name_key for link in edition.author_links.all()]


def _wanted_keys(book: Book) -> list[str]:
    return list(dict.fromkeys(map(name_key, book.authors)))


def _prices(rows: QuerySet[Call]) -> int:
    return int(rows.aggregate(calls=Sum("calls", default=0))["calls"])


def _most_in_a_second(rows: QuerySet[Call]) -> int:
    """The most send times that lie within one second."""
    sent = rows.exclude(outcome=Call.Outcome.NOT_SENT).order_by("send_at").values_list("send_at", flat=True)
    window: deque[datetime] = deque()
    most = 0
    for at in sent:
        window.append(at)
        while at - window[0] >= timedelta(seconds=1):
            window.popleft()
        most = max(most, len(window))
    return most


def _day(at: float) -> str:
    return str(datetime.fromtimestamp(at, UTC).date())


def _counted(figures: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(figures.items())) or "none"
