"""What `wideneck evaluate` finds: every number with its definition, and where it comes from."""

from dataclasses import dataclass

from wideneck.audits.estimate import Estimate
from wideneck.audits.measure import measure
from wideneck.audits.output.head_ranks import LogProbRanks
from wideneck.evaluation.perplexity import Perplexity
from wideneck.report.document import Document
from wideneck.report.parts import Page
from wideneck.report.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Model, text, software and command."""

    model: str = measure("what was evaluated, as it was named")
    kind: str = measure('"run", a folder of `wideneck train`, or "model", one of Hugging Face')
    head: str = measure('name of its head (`wideneck heads`), or "own": the model\'s output layer')
    num_parameters: int = measure("numbers that the model learned, a tied matrix counted once")
    text: str = measure("the text")
    split: str | None = measure("its split; none where the whole text was read")
    text_sha256: str = measure("hash of the documents of that split")
    num_documents: int = measure("documents that the text is cut into")
    device: str = measure("where the model ran")
    dtype: str = measure("type of its weights; losses are at least float32, ranks float64")
    versions: dict[str, str] = measure("software")
    command: str = measure("what was run")
    time: str = measure("when, UTC")
    seconds: dict[str, float] = measure("wall-clock time of each step", unit="seconds")
    notes: list[str] = measure("what a reader of the numbers should know")


@dataclass(frozen=True, kw_only=True)
class OverDocuments:
    """How far another text of the same kind might move the numbers."""

    loss: Estimate = measure("as `plain.loss`")
    perplexity: Estimate = measure("exp(loss)")
    bits_per_byte: Estimate = measure("as `plain.bits_per_byte`; the interval is that of the loss")


@dataclass(frozen=True, kw_only=True)
class WithCache:
    """The model beside a neural cache (Grave et al. 2017)."""

    size: int = measure("pairs of a hidden state and its next token that it holds")
    theta: float = measure("factor of the dot products, the best of a grid; 0 counts")
    weight: float = measure("the cache's share, the best of a grid; 0 leaves it out")
    valid_loss: float = measure("on the validation split, which chose the two", unit="nats")
    valid_loss_without: float = measure("on the validation split, the model alone", unit="nats")
    perplexity: Perplexity = measure("on the text")


@dataclass(frozen=True, kw_only=True)
class WithLearning:
    """The model going on to learn from the text, by dynamic evaluation (Krause et al. 2018)."""

    learning_rate: float = measure("eta")
    decay: float = measure("lambda, towards the trained weights")
    epsilon: float = measure("added to the root mean square of the gradients")
    segment: int = measure("tokens between two updates; a model of windows takes its window")
    scaling: str = measure(
        'of the gradients\' statistics: "new", as the paper has it, or "old", as its numbers were '
        "made"
    )
    num_batches: int = measure("batches of the training split that the statistics are from")
    perplexity: Perplexity = measure("on the text")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Document):
    """A model on a text.  What was not asked for is None."""

    source: Origin = measure("where the numbers come from")
    plain: Perplexity = measure("the model as it is")
    over_documents: OverDocuments | None = measure(
        "95 % intervals, where the model reads document by document; none for a run, whose state "
        "goes over from one to the next"
    )
    neural_cache: WithCache | None = measure("with a neural cache")
    dynamic: WithLearning | None = measure("with dynamic evaluation")
    ranks: LogProbRanks | None = measure(
        "of the matrix of log-probabilities, at places at equal distances over the text"
    )

    def page(self, reference: Reference) -> Page:
        """The losses, how they were measured, and the ranks."""
        from wideneck.evaluation.shown import page

        return page(self)
