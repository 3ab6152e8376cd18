import pytest

from benchmarks.sparse_products import SPARSITIES, measure


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_every_product_is_timed_beside_the_dense_one():
    (row,) = measure(2, (64, 32), (3,))
    assert row.keys() == {
        "batch", "dense ms", "half the rows", *(f"csr {s:g}" for s in SPARSITIES)
    }  # fmt: skip
    assert row["batch"] == 3 and all(v > 0 for v in row.values())
