"""The demo's story: the market as its people would use it, one step after another.

Each step goes through the same services as the pages and the API, takes up what a crash left unfinished and does
nothing twice. `DemoRun.facts` keeps what the steps counted on the way; everything else is read from the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from ledger.tasks import enqueue, handler, retry_job
from marketplace import clock, cycle
from marketplace.demo import acts
from marketplace.demo.generate import world_for
from marketplace.demo.models import DemoRun
from marketplace.demo.world import World
from marketplace.notices.services import report_progress

FIXTURES = Path(settings.BASE_DIR) / "fixtures" / "demo"
DEFAULT_SEED = 7


@dataclass(slots=True)
class Story:
    """The world of one seed and the run that plays it."""

    run: DemoRun
    world: World

    @property
    def began_at(self) -> datetime:
        return self.run.began_at

    def day(self, days: int, hours: int = 0) -> datetime:
        """A moment of the story, counted from its first hour."""
        return self.began_at + timedelta(days=days, hours=hours)

    def note(self, **facts: Any) -> None:
        """Keep figures that no table holds, such as refusals."""
        self.run.facts |= facts
        self.run.save(update_fields=["facts"])


@dataclass(frozen=True, slots=True)
class Step:
    """One act of the story: what is shown while it runs, and the function that plays it."""

    sentence: str
    play: Callable[[Story], None]


STEPS = (
    Step("Catalogue, parties and sites", acts.found_the_market),
    Step("Contracts, deposits and stakes on chain", acts.bring_money_and_stake),
    Step("First benchmarks: everybody starts on probation", acts.prove_challenges),
    Step("Two weeks of checks, then baselines: most are proven", acts.prove_baselines),
    Step("A small first window: demand, gate, bids, clearing", acts.play_early_market),
    Step("It is delivered; an outage earns its provider a warning", acts.deliver_early),
    Step("The warned provider proves itself again", acts.restore_star),
    Step("The main window collects demand; a bid comes too early", acts.collect_demand),
    Step("Late money makes demand eligible; the gate opens; sealed bids come in", acts.take_bids),
    Step("One price for all: clearing, certificate, money locked on chain", acts.clear_and_lock),
    Step("A week of delivery, minute by minute", acts.deliver_main),
    Step("Verdicts, credits, settlement, payouts", acts.judge_and_pay),
    Step("The unproven provider cannot be slashed: its holdback paid", acts.try_to_slash_unproven),
    Step("The dispute window passes; the slash pays the harmed buyer", acts.execute_slashes),
    Step("Books, chain and certificates are compared", acts.close_the_books),
)


def begin(*, seed: int = DEFAULT_SEED) -> Story:
    """The story of this database: the one that stands, or a new one of `seed`."""
    with transaction.atomic():
        first_hour = clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        run, _ = DemoRun.objects.get_or_create(id=1, defaults={"seed": seed, "began_at": first_hour})
    return Story(run, world_for(run.seed, FIXTURES))


def play(story: Story, *, tell: Callable[[int, Step], None] = lambda no, step: None) -> None:
    """Play every step that is not done yet."""
    while play_next(story, tell=tell):
        pass


def play_next(story: Story, *, tell: Callable[[int, Step], None] = lambda no, step: None) -> bool:
    """Play the next step; False when the story is over. A step that died half way is played again from its start."""
    no = story.run.steps_done
    if no >= len(STEPS):
        return False
    step = STEPS[no]
    tell(no, step)
    _progress(no, step.sentence)
    step.play(story)
    # The steps are idempotent, so that dying before this line only repeats one.
    story.run.steps_done = no + 1
    story.run.save(update_fields=["steps_done"])
    done = no + 1 == len(STEPS)
    _progress(
        no + 1, "The demo world stands." if done else STEPS[no + 1].sentence, outcome="done" if done else "running"
    )
    return not done


def _progress(done: int, sentence: str, outcome: str = "running") -> None:
    report_progress(
        job="demo", phase="demo world", done=done, total=len(STEPS), sentence=sentence, outcome=outcome, now=clock.now()
    )


# --- the same story as jobs, for `up` ---------------------------------------------------------------------------------
def enqueue_first_step() -> None:
    """Let the worker build the demo world; again does nothing, and a finished story stays finished."""
    story_done = DemoRun.objects.filter(pk=1).values_list("steps_done", flat=True).first() or 0
    if story_done < len(STEPS):
        job = enqueue(kind="demo_step", payload={"step": story_done}, dedupe_key=f"demo_step:{story_done}")
        retry_job(id=job, now=clock.now())  # one that failed too often gets a new life


# atomic=False: the steps move money on chain, which never happens inside an open database transaction
@handler("demo_step", atomic=False)
def demo_step(payload: dict[str, Any], now: datetime) -> None:
    """One step of the story as a job; the next one is asked for when it is done.

    A step outlives the lease of its job, the more so as it moves the market's clock: the job is then handed out again.
    Whoever gets it waits here, and finds the step done, or goes on with it when its player was killed.
    """
    with cycle.only_turn():
        story = begin()
        if story.run.steps_done == payload["step"]:
            play_next(story)
    enqueue_first_step()
