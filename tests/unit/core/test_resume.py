import pytest
import torch

from impasto.core.errors import BadParameter
from impasto.core.params import GatysParams
from impasto.core.resume import load_state, save_state

PARAMS = GatysParams(style="wave")
IDENTITY = {"parameters": PARAMS.model_dump_json(), "picture": "ab"}


def test_a_run_goes_on_from_its_state(tmp_path):
    path = tmp_path / "state.pt"
    assert load_state(path, IDENTITY, PARAMS, "cpu") is None
    save_state(path, IDENTITY, {"done": 3, "best": torch.ones(2)})
    state = load_state(path, IDENTITY, PARAMS, "cpu")
    assert state and state["done"] == 3 and state["best"].tolist() == [1, 1]


def test_a_parameter_that_was_not_saved_has_its_default(tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, IDENTITY | {"parameters": '{"style": "wave"}'}, {"done": 3})
    assert load_state(path, IDENTITY, PARAMS, "cpu")
    other = PARAMS.model_copy(update={"seed": 1})
    with pytest.raises(BadParameter, match="a run with other parameters, 3 steps done"):
        load_state(path, IDENTITY | {"parameters": other.model_dump_json()}, other, "cpu")


def test_the_state_of_another_run_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, IDENTITY | {"parameters": "{}", "picture": "cd"}, {"done": 3})
    before = path.read_bytes()
    with pytest.raises(BadParameter, match="other parameters and picture, 3 steps done"):
        load_state(path, IDENTITY, PARAMS, "cpu")
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"broken", b"PK\x03\x04"])
def test_a_damaged_state_is_said(tmp_path, data):
    path = tmp_path / "state.pt"
    path.write_bytes(data)
    with pytest.raises(BadParameter, match=r"state\.pt does not hold the state of a run\. Remove it"):
        load_state(path, IDENTITY, PARAMS, "cpu")
