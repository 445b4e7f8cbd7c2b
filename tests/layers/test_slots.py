import chex
import jax.numpy as jnp
import numpy as np
import pytest
from perturbed import integers

from mmjax.errors import UserError
from mmjax.layers.slots import check_slots, slots_of, splice, take

SEQUENCE = jnp.arange(10.0).reshape(2, 5, 1)
FEATURES = -jnp.arange(1.0, 5).reshape(2, 2, 1)  # -1, -2 and -3, -4


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        pytest.param([[0, 1], [3, 4]], [[-1, -2, 2, 3, 4], [5, 6, 7, -3, -4]], id="at the ends"),
        pytest.param([[3, 0], [2, 1]], [[-2, 1, 2, -1, 4], [5, -4, -3, 8, 9]], id="out of order"),
        pytest.param([[5, 2], [5, 5]], [[0, 1, -2, 3, 4], [5, 6, 7, 8, 9]], id="absent slots drop"),
        pytest.param([[99, 2], [7, 0]], [[0, 1, -2, 3, 4], [-4, 6, 7, 8, 9]], id="far beyond the end"),
    ],
)
def test_splice(slots, expected):
    y = splice(SEQUENCE, FEATURES, integers(*slots))
    chex.assert_trees_all_equal(y[..., 0], jnp.array(expected, jnp.float32))


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        pytest.param([[0, 4], [1, 1]], [[0, 4], [6, 6]], id="anywhere, also twice"),
        pytest.param([[5, 2], [99, 5]], [[0, 2], [0, 0]], id="absent slots read zeros"),
    ],
)
def test_take(slots, expected):
    chex.assert_trees_all_equal(take(SEQUENCE, integers(*slots))[..., 0], jnp.array(expected, jnp.float32))


def test_splice_keeps_the_type_of_the_sequence():
    assert splice(SEQUENCE.astype(jnp.bfloat16), FEATURES, integers([0, 1], [0, 1])).dtype == jnp.bfloat16


def test_slots_of_finds_ids_in_id_order():
    tokens = integers([9, 5, 4, 6, 0], [4, 0, 6, 0, 0], [0, 0, 0, 0, 0])
    np.testing.assert_array_equal(slots_of(tokens, 4, 3), [[2, 1, 3], [0, 5, 2], [5, 5, 5]])


def test_what_is_taken_is_what_was_spliced():
    slots = integers([4, 1], [0, 3])
    chex.assert_trees_all_equal(take(splice(SEQUENCE, FEATURES, slots), slots), FEATURES)


def test_check_slots_names_the_first_example_that_disagrees():
    tokens = np.array([[3, 3, 0], [3, 0, 0], [0, 0, 0]])
    check_slots(tokens, np.array([2, 1, 0]), marker=3)
    with pytest.raises(UserError, match=r"cat\.png: the text reserves 1 slots but its media give 2"):
        check_slots(tokens, np.array([2, 2, 9]), marker=3, examples=["dog.png", "cat.png", "owl.png"])
