"""The command `streamctr`. Commands load what they need when they run: `--help` is quick and never imports torch."""

import importlib.metadata
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jobs.console import EXIT_CODES, Call, Result, guarded

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run file, or the directory of a run.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write event files into.")]
Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="The folder with the KuaiRand files.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Stop before this moment; a resume goes on there.")]
Frozen = Annotated[str | None, typer.Option(metavar="TIME", help="Learn nothing from this moment on.")]
Directory = Annotated[Path | None, typer.Option("--run", metavar="DIR", help="The run directory; else runs/NAME.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="First delete what earlier runs left in the run directory.")]
FreshModel = Annotated[
    bool, typer.Option("--fresh", help="First delete what was learned and judged; what was joined stays.")
]
Start = Annotated[
    Path | None,
    typer.Option("--from", metavar="SNAPSHOT", help="Start a new run from the learner of this one, or of a run."),
]
Epochs = Annotated[
    int, typer.Option(metavar="N", min=1, help="At most so many; ends where the last bucket, held out, gets no better.")
]
Speed = Annotated[
    str | None,
    typer.Option(metavar="TIMES", help="Pace by event time: 1x is real time, 10x ten times faster; else no pace."),
]
Partitions = Annotated[int, typer.Option(metavar="N", min=1, help="Of topics that are created.")]
Synthetic = Annotated[
    bool, typer.Option("--synthetic", help="Send a synthetic world, of which --set world.roots=100000 says more.")
]
Now = Annotated[bool, typer.Option("--now", help="That world begins now; it goes on as --speed says.")]
Once = Annotated[bool, typer.Option("--once", help="Send nothing where the topics hold messages already.")]
UntilEnd = Annotated[
    str | None, typer.Option("--until", metavar="end|TIME", help="Stop where topics end now, or before this moment.")
]
UntilJoined = Annotated[
    Literal["end"] | None, typer.Option("--until", help="Of samples in a topic: stop where the join's input ended.")
]
OnGap = Annotated[
    Literal["stop", "earliest", "latest"],
    typer.Option(help="Where to go on when messages that are next are gone: nowhere, at the oldest, at the end."),
]
Name = Annotated[str | None, typer.Argument(metavar="[SNAPSHOT]", help="A snapshot's name; else the newest.")]
Events = Annotated[list[str], typer.Argument(metavar="EVENTS...", help="Event files, patterns or folders.")]
RunOut = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The run file; else named after the log.")]
EventId = Annotated[str, typer.Argument(metavar="EVENT_ID", help="The root's key; several fields joined by a colon.")]
Folder = Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the messages.")]
Words = Annotated[str | None, typer.Argument(metavar="[WORDS]", help="Only reasons that contain these words.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, help="Show at most so many.")]
Names = Annotated[str | None, typer.Argument(metavar="[SNAPSHOT]", help="A snapshot's name; else all of them.")]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as training.seed=2; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]


def _typer(text: str) -> typer.Typer:
    names = {"help_option_names": ["-h", "--help"]}
    options: dict[str, Any] = {"help": text, "epilog": EXIT_CODES, "context_settings": names, "no_args_is_help": True}
    return typer.Typer(**options, pretty_exceptions_enable=False, rich_markup_mode="rich")


app = _typer("Learn click and conversion models while the events arrive.")
data = _typer("Write event files to learn from.")
snapshots = _typer("Look at the snapshots of a run.")
dead_letters = _typer("Look at what could not be read, and write it out again.")
app.add_typer(data, name="data")
app.add_typer(snapshots, name="snapshots")
app.add_typer(dead_letters, name="dead-letters")


def command(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Add a function to `group` whose first argument is the `Call`; its other ones are the command's own.

    `--set` and `--json` come with it, as do the exit codes: the function is typer's, with those two in its signature.
    """

    def add(function: Callable[..., Result]) -> Callable[..., Result]:
        def run(**arguments: Any) -> None:
            call = Call(tuple(arguments.pop("sets")), arguments.pop("json"))
            raise typer.Exit(guarded(lambda: function(call, **arguments), call.as_json))

        own = list(inspect.signature(function).parameters.values())[1:]
        keyword = inspect.Parameter.KEYWORD_ONLY
        common = [
            inspect.Parameter("sets", keyword, default=[], annotation=Sets),
            inspect.Parameter("json", keyword, default=False, annotation=Json),
        ]
        parameters = [*(parameter.replace(kind=keyword) for parameter in own), *common]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__, run.__name__ = function.__doc__, function.__name__
        group.command(name, epilog=EXIT_CODES)(run)
        return function

    return add


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"streamctr {importlib.metadata.version('streamctr')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Learn click and conversion models while the events arrive."""


@command(app)
def demo(call: Call) -> Result:
    """Learn a synthetic world whose own probabilities are known, and compare."""
    from jobs.demo import run

    return run(call)


@command(app)
def init(call: Call, events: Events, out: RunOut = None) -> Result:
    """Write a commented run file for a log, guessed from its first events."""
    from jobs.init import init as job

    return job(call, events, out)


@command(app)
def check(call: Call, run: Run) -> Result:
    """Say all that is wrong with a run file, and what a sample of its events looks like."""
    from jobs.check import check as job

    return job(call, run)


@command(app)
def replay(  # noqa: PLR0913 - the options of the command
    call: Call,
    run: Run,
    until: Until = None,
    frozen: Frozen = None,
    directory: Directory = None,
    fresh: Fresh = False,
    start: Start = None,
) -> Result:
    """Learn from event files and judge; goes on from the newest snapshot of the run directory."""
    from jobs.replay import Request
    from jobs.replay import replay as job

    return job(call, Request(run, until, frozen, directory, fresh, start))


@command(app)
def join(  # noqa: PLR0913 - the options of the command
    call: Call,
    run: Run,
    until: UntilEnd = None,
    directory: Directory = None,
    fresh: Fresh = False,
    on_gap: OnGap = "stop",
    partitions: Partitions = 4,
) -> Result:
    """Join events to samples for `learn`: files in the run directory, or with kafka.samples topics to a topic."""
    from jobs.join import Request
    from jobs.join import join as job

    return job(call, Request(run, until, directory, fresh, on_gap, partitions))


@command(app)
def learn(  # noqa: PLR0913 - the options of the command
    call: Call,
    run: Run,
    epochs: Epochs = 1,
    frozen: Frozen = None,
    directory: Directory = None,
    fresh: FreshModel = False,
    start: Start = None,
    until: UntilJoined = None,
) -> Result:
    """Learn from joined samples and judge, in one epoch as `replay` does, or in several that are compared."""
    from jobs.learn import Request
    from jobs.learn import learn as job

    return job(call, Request(run, epochs, frozen, directory, fresh, start, until))


@command(app)
def consume(  # noqa: PLR0913 - the options of the command
    call: Call,
    run: Run,
    until: UntilEnd = None,
    on_gap: OnGap = "stop",
    frozen: Frozen = None,
    directory: Directory = None,
    fresh: Fresh = False,
    start: Start = None,
) -> Result:
    """Learn from Kafka topics and judge, until a signal or the end; goes on from the newest snapshot.

    It takes the run over from an older daemon, which then ends with exit code 79 at its next snapshot.
    """
    from jobs.consume import consume as job
    from jobs.replay import Request

    return job(call, Request(run, until, frozen, directory, fresh, start), on_gap)


@command(app)
def produce(  # noqa: PLR0913 - the options of the command
    call: Call,
    run: Run,
    speed: Speed = None,
    partitions: Partitions = 4,
    synthetic: Synthetic = False,
    now: Now = False,
    once: Once = False,
) -> Result:
    """Send a run's event files to its topics, keyed by the 8 bytes of the root's hash, with the events' times."""
    from jobs.produce import Request
    from jobs.produce import produce as job

    return job(call, Request(run, speed, partitions, synthetic, now, once))


@command(app)
def explain(call: Call, run: Run, event_id: EventId) -> Result:
    """Tell why a root and its events became training rows, or did not."""
    from jobs.explain import explain as job

    return job(call, run, event_id)


@command(data)
def synthetic(call: Call, out: Out) -> Result:
    """Write a seeded synthetic world; --set names its settings, such as roots=100000."""
    from jobs.data import synthetic as job

    return job(call, out)


@command(data)
def kuairand(call: Call, source: Source, out: Out) -> Result:
    """Convert the KuaiRand data set to one event file per stage."""
    from jobs.data import kuairand as job

    return job(call, source, out)


@command(snapshots, "list")
def list_all(call: Call, run: Run) -> Result:
    """List the snapshots of a run, the newest last."""
    from jobs.snapshots import list_all as job

    return job(call, run)


@command(snapshots)
def show(call: Call, run: Run, name: Name = None) -> Result:
    """Show what a snapshot holds."""
    from jobs.snapshots import show as job

    return job(call, run, name)


@command(snapshots)
def verify(call: Call, run: Run, name: Names = None) -> Result:
    """Compare every file of a snapshot with its checksum; exit code 74 where one differs."""
    from jobs.snapshots import verify as job

    return job(call, run, name)


@command(dead_letters, "list")
def list_letters(call: Call, run: Run) -> Result:
    """List why messages could not be read, the commonest reason first."""
    from jobs.deadletters import list_all as job

    return job(call, run)


@command(dead_letters, "show")
def show_letters(call: Call, run: Run, words: Words = None, limit: Limit = 10) -> Result:
    """Show messages that could not be read, with their place and bytes."""
    from jobs.deadletters import show as job

    return job(call, run, words, limit)


@command(dead_letters)
def redrive(call: Call, run: Run, out: Folder) -> Result:
    """Write them out as event files, each once, for a --fresh run with what was wrong mended."""
    from jobs.deadletters import redrive as job

    return job(call, run, out)


def main() -> None:
    """Run the command line.

    Torch's threads soon sleep when they wait for work: spinning on, as is their default, makes them ten times slower
    as soon as anything else runs on the machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "6000")
    app()
