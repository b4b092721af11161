"""The part ``prompts``: what the teacher is asked."""

import contextlib
import difflib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from distill.config.prompt_files import icldist_prompts, knowdist_prompts
from distill.config.prompt_schema import BASIC, METHODS, MINIMIZED, IclDistPrompts, KnowDistPrompts, Weight
from distill.config.sections.base import LocalPath, Processes, Section, runtime_field
from distill.config.task_file import load_task, with_tasks
from distill.errors import InputError
from distill.plugins import may_be_gone
from distill.resources import locate


class _Family(Section):
    """What KnowDist and ICLDist share: weights of what their prompt files name, and a user's own file of prompts."""

    weights: dict[str, Weight] = Field({}, description="how often each is asked, relative to the others, in place of "
                                                       "the prompt files' weights; 0: never")

    def _says_something_of_the_files(self) -> bool:
        """Say whether weights can be held against the files: a run's own config outlives a file that it names."""
        files = self._files()
        if not (self.weights or files) or not all(
                file.startswith("shipped:") or os.path.isfile(file) for file in files):
            return False
        if may_be_gone():
            with contextlib.suppress(InputError):
                return bool(self.prompts())
            return False
        return True

    if TYPE_CHECKING:
        def prompts(self) -> Any: ...
        def _files(self) -> list[str]: ...

    def _refuse_unknown_weights(self, known: Mapping[str, float], what: str) -> None:
        for name in self.weights:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"
                raise ValueError(f"weights names '{name}', which is no {what} of the prompt files{hint}")


class KnowDist(_Family):
    """Stage 1 prompts (Section 2.1, Tables 9 and 10). Switches: the ablation of Table 5.

    A method and a perspective together have the product of their weights. Perspectives that stand alone (BASIC) have
    none.
    """

    samples: int = Field(1_000_000, ge=0, description="prompts to ask (Section 4.1)")
    analyze: bool = Field(True, description="ask for analyses")
    rewrite: bool = Field(True, description="ask for rewritings")
    multi_perspective: bool = Field(True, description="draw among all perspectives; else one for all")
    prompts_per_text: int = Field(2, ge=1, le=8, description="ours: one of each method")
    # What stands in the file decides, by its content (distill.prompting.build), not where it lies.
    perspectives: LocalPath | None = runtime_field(
        None, description="a file of perspectives of your own beside those that ship: prompts/README.md")

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_called(cls, value: Any) -> Any:
        # Runs made before the key had its name can still be read.
        if isinstance(value, dict) and "file" in value and "perspectives" not in value:
            return {**{key: item for key, item in value.items() if key != "file"}, "perspectives": value["file"]}
        return value

    def prompts(self) -> KnowDistPrompts:
        """Return the prompts that ship, and those of ``perspectives``. Raises as :func:`knowdist_prompts`."""
        return knowdist_prompts(self.perspectives)

    def _files(self) -> list[str]:
        return [self.perspectives] if self.perspectives else []

    def kinds(self) -> dict[str, dict[str, float]]:
        """Return how often each perspective is asked by each method, as the switches and weights say."""
        prompts = self.prompts()
        weights = {**prompts.weights, **self.weights}
        on = {"analyze": self.analyze, "rewrite": self.rewrite}
        return {method: {name: weights[method] * weights.get(name, 1) for name, one in prompts.perspectives.items()
                         if on[method] and method in one.methods and one.alone != self.multi_perspective}
                for method in METHODS}

    @model_validator(mode="after")
    def _something_is_asked(self) -> Self:
        if self.samples and not (self.analyze or self.rewrite):
            raise ValueError("analyze and rewrite are both off; turn one on, or set samples to 0")
        if not self._says_something_of_the_files():
            return self
        known = self.prompts().weights
        self._refuse_unknown_weights(known, "method or perspective")
        weights = {**known, **self.weights}
        if not self.samples:
            return self
        if not ((self.analyze and weights["analyze"]) or (self.rewrite and weights["rewrite"])):
            raise ValueError("every method that is on has weight 0; raise weights.analyze or weights.rewrite, or set "
                             "samples to 0")
        if not any(weight for of_method in self.kinds().values() for weight in of_method.values()):
            perspectives = [name for name in known if name not in METHODS]
            raise ValueError(f"every perspective has weight 0; raise one of weights.{', '.join(perspectives)}, or set "
                             "samples to 0")
        return self


class IclDist(_Family):
    """Stage 2 prompts (Section 2.2, Tables 11 and 12). Switches: the ablation of Table 6.

    A text gets a task by the weights of the tasks, then strategies by the weights of those that the task has:
    label words (lw) are of the sentiment task, label taxonomies (lt) of the emotion task; mi: minimised instructions.
    """

    samples: int = Field(400_000, ge=0, description="prompts to ask (Section 4.1)")
    prompts_per_text: int = Field(1, ge=1, le=9, description="ours; several are of one task in different formats")
    label_words: bool = Field(True, description="draw among the labels' spellings")
    label_taxonomies: bool = Field(True, description="draw among sets of labels")
    minimized_instructions: bool = Field(True, description="draw among short instructions, too")
    min_demonstrations: int = Field(1, ge=0, le=55, description="demonstrations of a prompt, at least")
    max_demonstrations: int = Field(16, ge=0, le=55, description="demonstrations of a prompt, at most")
    tasks: list[LocalPath] = runtime_field([], description="task files of your own, asked beside the tasks that ship: "
                                                           "docs/own-task.md")
    demonstrations: LocalPath = Field("shipped:data/demonstrations.json", description="the pool of 55 (Section 2.2)")
    # Decides rows, not prompts: the teacher need not be asked again.
    pool_rows: bool = runtime_field(
        False, description="ours: train on the texts of the pool, too, with their own labels, in every format and "
                           "label set; changes the dataset, but no prompts")

    @model_validator(mode="before")
    @classmethod
    def _tasks_have_files_of_their_own(cls, value: Any) -> Any:
        # Runs made when there was a prompt file for ICLDist can still be read, unless they had one.
        if isinstance(value, dict) and "file" in value:
            if value["file"] is not None:
                raise ValueError("there is no file of prompts for ICLDist any more; describe each of its tasks in a "
                                 "task file (docs/own-task.md), and name these in prompts.icldist.tasks")
            return {key: item for key, item in value.items() if key != "file"}
        return value

    def prompts(self) -> IclDistPrompts:
        """Return the prompts that ship, and those of ``tasks``.

        Raises as :func:`icldist_prompts` and :func:`distill.config.task_file.load_task`.
        """
        prompts = icldist_prompts()
        return with_tasks(prompts, [load_task(locate(path)) for path in self.tasks]) if self.tasks else prompts

    def _files(self) -> list[str]:
        return self.tasks

    def formats(self, task: str) -> dict[str, list[str]]:
        """Return the formats (strategies) of a task that are on and have a weight, with the label sets each draws from.

        Minimised instructions name no labels; their demonstrations use the labels of BASIC, and those of the task's
        other formats that are on.
        """
        prompts = self.prompts()
        weights = {**prompts.weights, **self.weights}
        on = {"lw": self.label_words, "lt": self.label_taxonomies, MINIMIZED: self.minimized_instructions}
        found = {name: entry.label_sets for name, entry in prompts.tasks[task].formats.items()
                 if name == BASIC or (on.get(name, True) and weights[name])}
        if MINIMIZED in found:
            found[MINIMIZED] = list(dict.fromkeys(one for sets in found.values() for one in sets))
        return {name: sets for name, sets in found.items() if weights[name]}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_demonstrations > self.max_demonstrations:
            raise ValueError("min_demonstrations is larger than max_demonstrations")
        return self

    @model_validator(mode="after")
    def _something_is_asked(self) -> Self:
        if not self._says_something_of_the_files():
            return self
        prompts = self.prompts()
        self._refuse_unknown_weights(prompts.weights, "task or strategy")
        weights = {**prompts.weights, **self.weights}
        asked = [task for task in prompts.tasks if weights[task]]
        if self.samples and not asked:
            raise ValueError(f"every task has weight 0; raise one of weights.{', '.join(prompts.tasks)}, or set "
                             "samples to 0")
        for task in asked:
            if self.samples and not self.formats(task):
                raise ValueError(f"every strategy of the task {task} is off or has weight 0; raise one's weight, or "
                                 f"set weights.{task} to 0")
        return self


# Section 2.2 asks for "natural language understanding tasks" and lists none. Our reading: of the categories of
# Super-NaturalInstructions, those are out whose answer is a text to be written, a translation, a program or what one
# would return, a sum, or nothing that the category's name says.
NO_UNDERSTANDING = (
    "Code to Text", "Data to Text", "Dialogue Generation", "Entity Generation", "Explanation",
    "Grammar Error Correction", "Mathematics", "Misc.", "Number Conversion", "Paraphrasing", "Poem Generation",
    "Program Execution", "Question Decomposition", "Question Generation", "Question Rewriting", "Sentence Composition",
    "Sentence Compression", "Sentence Expansion", "Sentence Perturbation", "Story Composition", "Style Transfer",
    "Summarization", "Text Completion", "Text Simplification", "Text to Code", "Title Generation", "Translation",
    "Wrong Candidate Generation")


class General(Section):
    """General tasks of stage 2, from Super-NaturalInstructions files (task diversification, TD in Table 6).

    A file that does not say its languages or categories is not left out for them.
    """

    enabled: bool = Field(True, description="whether general tasks are asked and trained on")
    samples: int = Field(100_000, ge=0, description="prompts to ask (Section 4.1)")
    path: LocalPath = Field("shipped:data/natural_tasks", description="folder of Super-NaturalInstructions task files")
    max_tasks: int = Field(100, ge=1, description="tasks to use, about 100 (Section 2.2)")
    languages: list[str] = Field(["English"], description="ours: languages that a task's input, output and instruction "
                                                          "may be in; []: any")
    left_out_categories: list[str] = Field(
        list(NO_UNDERSTANDING), description="ours: categories that are no language understanding (Section 2.2)")
    max_examples: int = Field(4, ge=0, description="ours: positive examples shown, drawn from 0 to this many")


class Prompts(Section):
    """What the teacher is asked. The ``samples`` of the three families are their weights."""

    knowdist: KnowDist = KnowDist()
    icldist: IclDist = IclDist()
    general: General = General()
    workers: Processes | None = runtime_field(None, description="processes that build prompts; default: one a core")

    def read_files(self) -> None:
        """Read the prompt files, so that one that is missing or wrong is told before anything is done.

        Raises:
            InputError: as :func:`distill.config.prompt_files.knowdist_prompts`.
        """
        self.knowdist.prompts()
        self.icldist.prompts()
