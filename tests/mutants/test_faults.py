"""The list of faults fits the code, so that `make mutants` means something."""

import pytest

from tests.mutants.faults import Fault, read_faults

FAULTS = read_faults()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_has_one_place_in_the_code_and_its_tests_exist(fault: Fault) -> None:
    """When this fails, you have changed the code or a test that a fault names. Change the fault with it.

    If what it breaks does not exist any more, delete it.
    """
    assert fault.problems() == []
    assert fault.old != fault.new


def test_no_two_faults_have_one_name() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 60
