"""Progress bars on standard error, one for each stage of a long run."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Self

from tqdm import tqdm

from wideneck.files.printable import printable, shortened


class ProgressBars:
    """A `progress(stage, done, total)` callback that shows the stage under way.

    A bar appears after half a second, so quick stages stay silent, and goes when its stage ends.
    tqdm keeps quiet where TQDM_DISABLE is set.

    Args:
        time_left: show that as well, for stages that take minutes.
    """

    def __init__(self, *, time_left: bool = False):
        self._time = "{elapsed}, {remaining} left" if time_left else "{elapsed}"
        self._bar: tqdm | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show `done` of `total`; a new `stage` closes the bar before."""
        if stage != self._stage:
            self._close()
            self._stage = stage
            self._bar = tqdm(
                total=total,
                desc=printable(shortened(stage, 40)),
                file=sys.stderr,
                leave=False,
                delay=0.5,
                bar_format=f"{{desc}}: {{percentage:3.0f}}% |{{bar}}| {self._time}",
            )
        assert self._bar is not None
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress_bars(
    shown: bool, *, time_left: bool = False
) -> AbstractContextManager[ProgressBars | None]:
    """Bars while a command runs; None for one of several processes that is not to show any."""
    return ProgressBars(time_left=time_left) if shown else nullcontext()


@contextmanager
def training_line() -> Iterator[Callable[[float, float, float], None]]:
    """A `show(share, loss, tokens a second)` callback: one line that is alive while a run trains.

    It takes how much is done, the last loss in nats a token, and the speed.  tqdm keeps quiet where
    TQDM_DISABLE is set.
    """
    bar: tqdm | None = None

    def show(share: float, loss: float, speed: float) -> None:
        nonlocal bar
        said = f"loss {loss:.3f}, {speed:,.0f} tokens/s"
        if bar is None:
            bar = tqdm(
                desc=said,
                total=1.0,
                initial=share,  # where a run goes on, for the time left
                file=sys.stderr,
                leave=False,
                bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left",
            )
        bar.set_description_str(said, refresh=False)
        bar.update(share - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
