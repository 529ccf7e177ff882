"""Several processes compute what one does: losses, weights, dropout, validation, moments, checkpoints."""

import copy

import pytest

from .launching import results


def changed(job, **changes):
    """Give the job with other settings; those of `train` are merged."""
    made = copy.deepcopy(job)
    made["train"].update(changes.pop("train", {}))
    return {**made, **changes}


def agree(job, tmp_path, sizes=(1, 4)):
    """Run a job on each number of processes: all processes of a run say the same, all runs almost; give the first."""
    runs = [results(size, job, tmp_path) for size in sizes]
    for run in runs:
        for said in run:
            same = {key: value for key, value in said.items() if key not in ("rank", "after")}
            assert same == {key: value for key, value in run[0].items() if key not in ("rank", "after")}
        assert run[0]["losses"] == pytest.approx(runs[0][0]["losses"], rel=1e-5)
        assert run[0]["norms"] == pytest.approx(runs[0][0]["norms"], rel=1e-4)
        assert run[0]["val_losses"] == pytest.approx(runs[0][0]["val_losses"], rel=1e-5)
        assert run[0]["passes"] == runs[0][0]["passes"]
    return [run[0] for run in runs]


def test_the_number_of_processes_changes_no_loss(job, tmp_path):
    first, *others = agree(job, tmp_path, (1, 2, 4))
    assert first["losses"][-1] < first["losses"][0] - 0.5
    assert len({first["weights"], *(run["weights"] for run in others)}) == 3  # to the last bit they differ


@pytest.mark.parametrize("passes", [1, 4])
def test_masks_of_dropout_are_those_of_the_whole_batch(job, tmp_path, passes):
    settings = {"gradient_accumulation_steps": passes, "batch_size": 4}
    agree(changed(job, model={"dropout": 0.3}, train=settings), tmp_path)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion", "muon"])
def test_divided_moments_change_no_bit(job, tmp_path, optimizer):
    settings = {"optimizer": optimizer, "learning_rate": 1e-3, "momentum": 0.9}
    (whole, divided) = (
        results(3, changed(job, train={**settings, "zero_stage": stage, "batch_size": 9}), tmp_path)
        for stage in (0, 1)
    )
    assert [run["weights"] for run in whole] == [run["weights"] for run in divided]
    assert len({run["weights"] for run in whole}) == 1
    assert whole[0]["losses"] == divided[0]["losses"]


def test_a_run_is_the_same_every_time(job, tmp_path):
    assert results(2, job, tmp_path) == results(2, job, tmp_path)


@pytest.mark.parametrize("stage", [0, 1])
def test_half_the_bytes_give_almost_the_same_losses(job, tmp_path, stage):
    narrow = results(
        2,
        changed(job, train={"gradient_compression": "bf16", "zero_stage": stage, "max_steps": 12}),
        tmp_path,
    )
    exact = results(2, changed(job, train={"max_steps": 12}), tmp_path)
    assert narrow[0]["weights"] == narrow[1]["weights"] != exact[0]["weights"]
    assert narrow[0]["losses"] == pytest.approx(exact[0]["losses"], rel=2e-3)
    assert narrow[0]["losses"] != exact[0]["losses"]


def test_finetuning_on_answers_that_lie_unevenly(job, corpus, tmp_path):
    settings = {"lora_r": 2, "lora_dropout": 0.2, "batch_size": 4, "block_size": 16, "eval_steps": 2}
    answers = changed(job, verb="finetune", data=str(corpus / "qa.jsonl"), train=settings)
    one, four = agree(answers, tmp_path)
    assert one["after"] == pytest.approx(four["after"], rel=1e-5)


def test_the_first_process_alone_writes_the_texts_of_the_model(job, corpus, tmp_path):
    train = {"batch_size": 4, "block_size": 16, "max_steps": 2, "recall_tokens": 64}
    job = changed(job, verb="finetune", data=str(corpus / "qa.jsonl"), train=train)
    elsewhere = tmp_path / "absent" / "run"  # the other has another place, which it must not touch
    spoil = {"rank": 1, "output_dir": str(elsewhere)}
    said = results(2, {**job, "output_dir": str(tmp_path / "run"), "spoil": spoil}, tmp_path)
    assert set(said[0]["after"]) == {"new", "recalled"}
    assert (tmp_path / "run" / "training" / "recalled.json").is_file()
    assert not elsewhere.parent.exists()


def test_packed_rows_are_divided_too(job, corpus, tmp_path):
    settings = {"packing": True, "batch_size": 4, "gradient_accumulation_steps": 1}
    agree(changed(job, verb="finetune", data=str(corpus / "qa.jsonl"), train=settings), tmp_path, (1, 2))


def test_preferences_are_divided_by_pairs(job, corpus, tmp_path):
    settings = {"batch_size": 4, "learning_rate": 1e-3, "max_steps": 4, "val_fraction": 0.2}
    model = {"dropout": 0.2, "block_size": 32}
    agree(changed(job, verb="dpo", data=str(corpus / "pairs.jsonl"), model=model, train=settings), tmp_path)


def test_the_best_weights_come_back_to_all(job, tmp_path):
    # A rate at which the loss soon rises.
    settings = {"learning_rate": 0.3, "early_stopping_patience": 2, "eval_steps": 1, "max_steps": 12}
    for where in ({}, {"output_dir": str(tmp_path / "run")}):
        run = results(2, changed(job, train=settings, **where), tmp_path)
        assert run[0]["weights"] == run[1]["weights"]
        assert len(run[0]["losses"]) < 12


@pytest.mark.parametrize("stage", [0, 1])
def test_a_run_goes_on_with_any_number_of_processes(job, tmp_path, stage):
    settings = {"zero_stage": stage, "max_steps": 6, "eval_steps": 0, "save_steps": 2}
    job = changed(job, train=settings, model={"dropout": 0.2})
    unbroken = results(2, job, tmp_path)[0]
    for size in (1, 2, 4):
        place = tmp_path / f"run-{size}"
        broken = results(2, {**job, "output_dir": str(place), "stumble": [3, "interrupt"]}, tmp_path)
        assert [run["interrupted"] for run in broken] == [True, True]
        assert broken[0]["losses"] == unbroken["losses"][:3]
        resumed = results(size, {**job, "output_dir": str(place), "resume": True, "seed": 5}, tmp_path)
        assert resumed[0]["losses"] == pytest.approx(unbroken["losses"], rel=1e-5)
        assert len({run["weights"] for run in resumed}) == 1
        if size == 2:
            assert resumed[0]["losses"] == unbroken["losses"]
            assert resumed[0]["weights"] == unbroken["weights"]
            assert resumed[1]["losses"] == unbroken["losses"][3:]  # of what was before rank 0 alone knows


def test_a_run_of_one_process_goes_on_with_several(job, tmp_path):
    job = changed(job, train={"eval_steps": 0}, model={"dropout": 0.1}, output_dir=str(tmp_path / "run"))
    whole = results(1, {**job, "output_dir": str(tmp_path / "whole")}, tmp_path)[0]
    results(1, {**job, "stumble": [2, "interrupt"]}, tmp_path)
    settings = {**job["train"], "zero_stage": 1}
    resumed = results(4, {**job, "train": settings, "resume": True}, tmp_path)
    assert resumed[0]["losses"] == pytest.approx(whole["losses"], rel=1e-5)


@pytest.mark.parametrize(("stage", "every"), [(0, 10), (1, 10), (0, 1000), (1, 1000)])
def test_all_go_back_together(job, tmp_path, stage, every):
    # With 1000 the only checkpoint is that of step 0, whose moments are fresh ones.
    settings = {"on_spike": "rollback", "spike_z_score": 3.0, "save_steps": every, "max_steps": 90}
    settings |= {"eval_steps": 0, "zero_stage": stage, "batch_size": 2, "max_grad_norm": 0, "block_size": 8}
    alone, run = (
        results(
            size,
            changed(job, train=settings, output_dir=str(tmp_path / f"run-{size}"), spike=[75, 30.0]),
            tmp_path,
        )
        for size in (1, 2)
    )
    assert [said["rollbacks"] for said in run] == [1, 1]
    assert run[0]["weights"] == run[1]["weights"]
    assert len(run[0]["losses"]) == 90
    assert run[0]["losses"] == pytest.approx(alone[0]["losses"], rel=1e-3)
