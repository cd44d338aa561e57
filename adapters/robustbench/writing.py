"""A folder to submit to RobustBench: model, numbers, log, and the text of the issue to open
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext import __version__
from art_ext.adapters.robustbench.evidence import Evidence
from art_ext.adapters.robustbench.info import FULL, check_identifier, write_model_info
from art_ext.adapters.robustbench.texts import IMAGES, WEIGHTS, issue_of, log_of
from art_ext.core.checks import check_choice, check_count
from art_ext.storage import formats
from art_ext.storage.files import plain_tensors, safetensors_of
from art_ext.storage.ownership import check_place, write_json
from art_ext.storage.store import LocalStore, Place, Store, store_of

SUBMISSION, EVIDENCE, LOG, ISSUE = "submission.json", "evidence.safetensors", "log.txt", "issue.md"
KINDS = ("model", "external")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Facts of a submission that the records do not contain.

    Attributes:
        name: the model's id, ``<Name><Year><FirstWordOfTitle>``. In an external
            evaluation, the id in the model zoo.
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"imagenet"``.
        authors: of the paper or, of an external evaluation, of the evaluation.
        paper_title: title of the paper.
        paper_link: URL of the paper.
        venue: of the paper. Empty for an unpublished one.
        architecture: such as ``"WideResNet-28-10"``.
        additional_data: whether training used more than the data set.
        forward_passes: of one prediction.
        footnote: shown below the leaderboard.
        method: how it was evaluated: a link or a sentence, put before the list of attacks.
        url: where checkpoint and code, or the adversarial images, can be downloaded.
        model_zoo: whether the model shall be added to the zoo.
        new_architecture: whether its architecture is none of RobustBench's.
        license: ``"MIT"``, or the URL of another one.
    """

    name: str
    dataset: str = "cifar10"
    authors: str = ""
    paper_title: str = ""
    paper_link: str = ""
    venue: str = ""
    architecture: str = ""
    additional_data: bool | None = None
    forward_passes: int = 1
    footnote: str = ""
    method: str = ""
    url: str = ""
    model_zoo: bool = True
    new_architecture: bool = False
    license: str = ""

    def check(self, external: bool) -> None:
        """Raise ValueError unless the issue can be filled in.

        Raises:
            ValueError: naming what is missing.
        """
        check_choice("dataset", self.dataset, tuple(FULL))
        check_identifier(self.name)
        needed = (
            ("authors",) if external else ("authors", "paper_title", "paper_link", "architecture")
        )
        missing = [name for name in needed if not getattr(self, name).strip()]
        if not external and self.additional_data is None:
            missing.append("additional_data")
        if missing:
            raise ValueError(f"the submission must say {', '.join(missing)}")


@dataclass(frozen=True)
class Source:
    """The user's model: a Python file of its own, the function in it that makes the network, and
    its arguments.

    Attributes:
        model: the network with its weights.
        file: with nothing but installed packages imported in it, since it is submitted alone.
        factory: name of the function.
        arguments: of it, as text.
        content: text of the file. None: the file exists.
    """

    model: nn.Module
    file: Path
    factory: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    content: str | None = None

    def read(self) -> bytes:
        """Return the content of the file."""
        return self.file.read_bytes() if self.content is None else self.content.encode()


def submission(
    out: Place,
    metadata: Metadata,
    evidence: Evidence,
    source: Source | None = None,
    *,
    external: bool = False,
    allow_partial: bool = False,
    sample: int = 200,
) -> Path:
    """Make a folder for RobustBench: a new model, or with ``external`` an evaluation of a model
    that it has.

    It holds ``issue.md`` (the text of the issue), ``submission.json``, ``log.txt`` (attacks,
    their settings, and the successes of each), and ``evidence.safetensors`` (labels and verdicts of
    all samples, and some samples themselves with their adversarials). A model adds its file,
    ``model.safetensors``, ``model.pt`` (its state dict) and its model_info file. An external
    evaluation adds ``adversarial_images.pt``. All accuracies are counted from the evidence.

    Args:
        out: the folder, new or empty. It appears when it is complete.
        metadata: what the records cannot know.
        evidence: what was measured.
        source: the model. It may be left out of an external evaluation, which is then checked
            against the zoo's model.
        external: an evaluation of a model in RobustBench's zoo.
        allow_partial: accept fewer samples than the full test set.
        sample: how many samples to put into the folder for its check.

    Raises:
        ValueError: if something is missing, the test set is not complete, or the folder has other
            files in it.
    """
    check_count("sample", sample)
    metadata.check(external)
    full, samples, shape = FULL[metadata.dataset], len(evidence.x), tuple(evidence.x.shape[1:])
    if metadata.dataset.startswith("cifar") and shape != (3, 32, 32):
        raise ValueError(
            f"images of {metadata.dataset} have shape (3, 32, 32), got {shape}: wrong dataset?"
        )
    if samples > full or (samples < full and not allow_partial):
        raise ValueError(
            f"the leaderboard of {metadata.dataset} wants the full test set, {full} images, got"
            f" {samples}: evaluate all of them, or accept fewer with allow_partial"
            " (--allow-partial)"
        )
    if external and evidence.images is None:
        raise ValueError(
            "an external evaluation submits its adversarial images: evaluate with save_images=True"
        )
    if source is None and not external:
        raise ValueError(
            "a new model must be submitted with its file and weights, got none (--model SOURCE)"
        )
    there = source is None or source.content is not None or source.file.is_file()
    if source is not None and (source.file.suffix != ".py" or not there):
        raise ValueError(
            f"the model must come from a Python file, which is submitted, got {source.file}"
        )
    store = store_of(out)
    _check_free(store)
    facts = _describe(metadata, evidence, source, external)
    with store.folder("") as temporary:
        _write(LocalStore(temporary), facts, metadata, evidence, source, sample)
        _check_free(store)
    return store.path


def _check_free(store: Store) -> None:
    """Raise ValueError unless a folder is new or empty."""
    check_place(store, "out must be a new or empty folder")
    if store.names():
        raise ValueError(
            f"out must be a new or empty folder, got {store.path}: nothing in it is overwritten"
        )


def _describe(
    metadata: Metadata, evidence: Evidence, source: Source | None, external: bool
) -> dict[str, Any]:
    """Return the content of submission.json."""
    return {
        "tool": "art-ext",
        "version": __version__,
        "format": formats.SUBMISSION.written,
        "kind": KINDS[external],
        "metadata": asdict(metadata),
        "threat_model": evidence.norm.capitalize(),
        "norm": evidence.norm,
        "eps": evidence.eps,
        "samples": len(evidence.x),
        "full": FULL[metadata.dataset],
        "model": (
            source
            and {
                "file": source.file.name,
                "factory": source.factory,
                "arguments": dict(source.arguments),
            }
        ),
        "clean_accuracy": evidence.clean_accuracy,
        "robust_accuracy": evidence.robust_accuracy,
        "autoattack_accuracy": evidence.autoattack_accuracy,
        "accuracies": evidence.accuracies,
        "details": dict(evidence.details),
    }


def _write(
    store: Store,
    facts: dict[str, Any],
    metadata: Metadata,
    evidence: Evidence,
    source: Source | None,
    sample: int,
) -> None:
    store.write(EVIDENCE, safetensors_of(evidence.sample(sample)))
    if source is not None:
        store.write(source.file.name, source.read())
        state = source.model.state_dict()
        store.write(WEIGHTS[0], safetensors_of(state))
        _write_tensors(store, WEIGHTS[1], plain_tensors(state))
    if facts["kind"] == "external":
        _write_tensors(store, IMAGES, evidence.images)
    else:
        reported, autoattack = evidence.robust_accuracy, evidence.autoattack_accuracy
        part = (
            ""
            if facts["samples"] == facts["full"]
            else f"Measured on the first {facts['samples']} test images."
        )
        write_model_info(
            store,
            metadata.name,
            title=metadata.paper_title,
            link=metadata.paper_link,
            authors=metadata.authors,
            architecture=metadata.architecture,
            additional_data=bool(metadata.additional_data),
            eps=evidence.eps,
            clean_accuracy=evidence.clean_accuracy,
            reported=reported,
            autoattack_accuracy=autoattack,
            external=reported if autoattack is not None and reported < autoattack else None,
            dataset=metadata.dataset,
            threat_model=facts["threat_model"],
            venue=metadata.venue,
            number_forward_passes=metadata.forward_passes,
            footnote=f"{metadata.footnote} {part}".strip(),
        )
    store.write(ISSUE, issue_of(facts).encode())
    store.write(LOG, log_of(facts, evidence).encode())
    write_json(store, SUBMISSION, facts)


def _write_tensors(store: Store, name: str, content: Tensor | Mapping[str, Tensor] | None) -> None:
    with store.writing(name) as stream:
        torch.save(content, stream)
