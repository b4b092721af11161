"""Encoder students as a user meets them: the commands, and the report beside the paper's table."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.config.load import load_config, save_config
from distill.config.sections.encoder import RUN_FILE, EncoderConfig
from distill.encoder import stage
from distill.errors import InputError, RunError
from distill.run.folder import claim
from distill.run.stage import MARKER
from distill.run.storage import write_json
from distill.runtime.parallel import DeviceSlot
from flows.encoder_run import find_encoder_config, train_run
from flows.evaluated_models import newest_run, subject_of
from flows.nightly import set_baseline
from flows.run import CONFIG, find_config, find_run, open_run
from tests.support.encoder import config_of

NAMES = {"very negative", "negative", "neutral", "positive", "very positive"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))


def test_models_of_different_settings_are_never_averaged_and_kept_ones_shown_as_they_are(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder.training import train
    from flows.report.encoder.build import build_encoder_report

    monkeypatch.setattr(DeviceSlot, "call", lambda _self, _target, spec, _log: train(json.loads(json.dumps(spec))))
    frozen = config_of(encoders, epochs=2, unfreeze={"strategy": "never"}, seeds=[1, 2], at_once=1)
    other = config_of(encoders, epochs=3, seeds=[1, 2], at_once=1)
    run = tmp_path / "run"
    stage.train_encoder(frozen, run)
    with pytest.raises(InputError, match=r"still to be trained would be .*must not be averaged"):
        stage.train_encoder(other.model_copy(update={"seeds": [1, 2, 3]}), run, "keep")
    assert not stage.model_folder(run, 3).exists()
    assert all(one.reused for one in stage.train_encoder(other, run, "keep"))
    save_config(other, run / RUN_FILE)
    page = build_encoder_report([run], tmp_path / "report.html").read_text()
    assert "<td>never</td>" in page and "after_n" not in page
    stage.train_encoder(other.model_copy(update={"seeds": [2]}), run, "discard")
    with pytest.raises(InputError, match=r"seed2 was trained with other settings than .*seed1.*must not be averaged"):
        build_encoder_report([run], tmp_path / "report.html")


def test_a_run_that_was_killed_says_which_of_its_seeds_are_missing(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder.training import train
    from flows.report.encoder.build import build_encoder_report

    def call(_seat: DeviceSlot, _target: str, spec: dict[str, Any], _log: Path) -> dict[str, Any]:
        if spec["seed"] == 3:
            raise RunError("killed")
        return train(json.loads(json.dumps(spec)))

    monkeypatch.setattr(DeviceSlot, "call", call)
    run, config = tmp_path / "run", config_of(encoders, epochs=3, at_once=1)
    train_run(config.model_copy(update={"seeds": [1]}), run, "stop")
    with pytest.raises(RunError, match="killed"):
        train_run(config.model_copy(update={"seeds": [1, 2, 3]}), run, "stop")
    page = build_encoder_report([run], tmp_path / "report.html").read_text()
    assert "1 of its seeds are not finished" in page
    kept = (run / RUN_FILE).read_text()
    with pytest.raises(InputError, match=r"batch_size: 8 then, 4 now") as refused:
        train_run(config.model_copy(update={"batch_size": 4, "seeds": [1]}), run, "stop")
    assert "distill explain" not in str(refused.value) and (run / RUN_FILE).read_text() == kept


def test_the_commands_train_score_and_classify(encoders: Path, tmp_path: Path) -> None:
    from tests.support.flow import distill

    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({
        "name": "mine", "data": {"path": str(encoders / "data")}, "backbone": {"name": str(encoders / "tiny")},
        "epochs": 2, "seeds": [1, 2], "batch_size": 8}))
    done = distill("encoder", "train", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "mean ± sd" in done.stdout, done.stderr
    model = "runs/mine/models/seed2"
    done = distill("encoder", "evaluate", model, "--data", str(encoders / "data"), cwd=tmp_path)
    assert done.returncode == 0 and "40 sentences of test: accuracy" in done.stdout, done.stderr
    (tmp_path / "texts.txt").write_bytes("\ufeffa great film\n\nan awful plot\n".encode() * 600 + b"\n\n")
    done = distill("encoder", "predict", model, "texts.txt", cwd=tmp_path)
    assert "600 lines were blank" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"].lstrip("\ufeff") for row in rows] == ["a great film", "an awful plot"] * 600
    assert rows[0]["text"] == "a great film" and set(rows[0]["probabilities"]) == set(
        NAMES)
    assert distill("encoder", "predict", model, "none.txt", cwd=tmp_path).returncode == 2
    done = distill("encoder", "report", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs/mine/report/report.html").read_text()
    assert "Shishaev" not in page, "other data than SST-5 have no row in the paper"
    assert page.count("<svg") == 3
    assert "200 sentences to train on, 40 dev, 40 test" in page
    assert "http" not in page.split("</style>")[1].split("<svg")[0], "it needs nothing from elsewhere"
    assert "is no run of an encoder" in distill("encoder", "report", "nothing", cwd=tmp_path).stderr


def test_neither_kind_of_run_is_taken_for_the_other(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    claim(tmp_path / "runs/mine")
    (tmp_path / "runs/mine/models/seed42").mkdir(parents=True)
    save_config(config_of(encoders), tmp_path / "runs/mine" / RUN_FILE)
    write_json(tmp_path / "runs/mine/models/seed42" / MARKER, {"finished_at": 1.0})
    runs = tmp_path / "runs"
    with pytest.raises(InputError, match=r"No run in .* has a finished model"):
        newest_run(runs)
    for take in (lambda: find_run("mine"), lambda: open_run("ci", "mine").__enter__(),
                 lambda: open_run(None, "mine").__enter__(), lambda: subject_of("mine", runs),
                 lambda: set_baseline("mine", tmp_path / "evaluations", runs)):
        with pytest.raises(InputError, match="mine is a run of an encoder student"):
            take()
    save_config(load_config(find_config("ci")), runs / "other" / CONFIG)
    with pytest.raises(InputError, match="other holds a run of the pipeline"):
        train_run(config_of(encoders), runs / "other", "stop")


def test_the_papers_table_2_is_as_printed(shared_dir: Path) -> None:
    from flows.report.encoder.build import paper_row

    sst5 = {"train": 8544, "dev": 1101, "test": 2210}
    paper = next((shared_dir / "seeds").glob("000_*")).read_text(encoding="utf-8")
    rows = [paper_row(load_config(find_encoder_config(name), (), EncoderConfig), sst5) for name in (
        "baseline", "after-n", "layerwise", "after-n-prompt", "after-n-prompt-triplet")]
    for row in rows:
        assert row and f"{row['title']}\t{row['macro_f1']}\t{row['accuracy']}" in paper
    assert paper_row(load_config(find_encoder_config("after-n-triplet"), (), EncoderConfig), sst5) is None
    of_others = load_config(find_encoder_config("baseline"), ["data.names=[bad,good]"], EncoderConfig)
    assert paper_row(of_others, sst5) is None
    assert paper_row(load_config(find_encoder_config("baseline"), (), EncoderConfig), {**sst5, "test": 9}) is None


def test_the_moments_of_unfreezing_are_those_of_the_curve() -> None:
    from flows.report.encoder.pictures import unfreezings

    def curve(*counts: int) -> list[dict[str, int]]:
        return [{"epoch": epoch, "trained_layers": count} for epoch, count in enumerate(counts)]

    assert unfreezings(curve(0, 0, 7, 7), 6) == [(2, "all unfrozen")]
    assert unfreezings(curve(0, 1, 1, 2, 3), 2) == [
        (1, "1 of 2 layers"), (3, "2 of 2 layers"), (4, "all unfrozen")]
    assert unfreezings(curve(0, 0), 2) == []
