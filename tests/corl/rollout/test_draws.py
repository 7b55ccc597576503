from corl.rollout.draws import draw_seed


def test_every_part_of_the_key_counts():
    keys = [
        (0, 0, "a", 0),
        (1, 0, "a", 0),
        (0, 1, "a", 0),
        (0, 0, "b", 0),
        (0, 0, "a", 1),
        (0, 0, "0/a", 0),
        (0, 0, "", 0),
    ]
    seeds = {draw_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)


def test_the_key_is_the_same_on_every_machine_and_in_every_process():
    assert draw_seed(7, 3, "medqa:1", 2) == -9221904100872179686
