import torch

from model.speed.limits import measure_limits


def test_the_probes_find_what_any_machine_has() -> None:
    limits = measure_limits(torch.get_num_threads())
    assert limits.gflops > 1
    assert limits.gflops_bf16 > 0
    assert 0.1 < limits.gigabytes < 10_000
    assert limits.products(2e9 * limits.gflops) == 2
    assert limits.reading(2e9 * limits.gigabytes) == 2
