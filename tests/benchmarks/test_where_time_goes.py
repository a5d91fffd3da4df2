"""What an operation belongs to, and that all time is put down to something."""

import torch
from where_time_goes import REST, part_of, watched


def test_parts_by_the_names_of_operations() -> None:
    assert part_of("aten::mm") == part_of("mkldnn::_linear_pointwise") == "matrix products"
    assert part_of("_TextAttentionBackward") == "attention"
    assert part_of("_SumNorm").startswith("norms")
    assert part_of("aten::_fused_adamw_").startswith("optimizer")
    assert part_of("CompiledGRUStack").startswith("recurrences")
    assert part_of("a name that nobody knows") == part_of("_CompiledBackward") == REST


def test_time_is_put_down_to_a_part() -> None:
    x = torch.randn(300, 300)
    with watched() as times:
        for _ in range(10):
            x @ x
    assert times["matrix products"] > 0.5 * sum(times.values())
