"""``encoder/train`` on the production stack: trained once, shown, reported, resumed."""

import json
from pathlib import Path

import yaml

from tests.support.encoder import small_data, tiny_encoder
from tests.support.stack import Stack


def test_a_worker_trains_shows_and_reports_and_does_no_seed_twice(stack: Stack, tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "tiny")
    small_data(tmp_path / "data")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({
        "name": "mine", "data": {"path": str(tmp_path / "data")}, "backbone": {"name": str(tmp_path / "tiny")},
        "epochs": 2, "seeds": [1, 2], "batch_size": 8, "unfreeze": {"strategy": "after_n", "epoch": 1}}))
    stack.worker()
    begun = stack.begin("encoder/train", config=str(tmp_path / "mine.yaml"))
    state = stack.ended(begun)
    assert state.is_completed(), (state.message, stack.log())
    run = stack.folder / "runs/mine"
    assert "<svg" in (run / "report/report.html").read_text()
    shown = stack.artifacts(begun)
    assert [row["seed"] for row in json.loads(shown["encoder"].data)] == ["1", "2"]
    assert [row["in"] for row in json.loads(shown["row-counts"].data)] == [200, 200]
    (run / "models/seed2/_done.json").unlink()  # as a crash would leave it
    before = (run / "models/seed1/_done.json").stat().st_mtime_ns
    state = stack.ended(stack.begin("encoder/train", config=str(tmp_path / "mine.yaml")))
    assert state.is_completed(), (state.message, stack.log())
    assert (run / "models/seed2/_done.json").exists()
    assert (run / "models/seed1/_done.json").stat().st_mtime_ns == before
    state = stack.ended(stack.begin("encoder/train", config="nothing"))
    assert state.is_failed() and "There is no encoder config file nothing" in state.message
