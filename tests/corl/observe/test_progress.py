from corl.observe.progress import Progress, readable


def test_values_are_read_at_a_glance():
    values = {"step": 7, "loss": 0.123456, "lr": 1e-6, "dev": None, "tokens": 123456, "stage": "rl1", "applied": True}
    assert readable(values) == "step 7  loss 0.1235  lr 1e-06  tokens 123456  stage rl1  applied True"
    assert readable({}) == ""


def test_the_main_rank_says_a_line_a_step_and_the_others_nothing(capsys):
    for shown in (True, False):
        progress = Progress("rl1", 3, 1, shown=shown)
        progress.step("step 2")
        progress.note("mined")
        progress.close()
    out = capsys.readouterr().out
    assert out == "rl1        step 2\nrl1        mined\n"
