"""Unargmaxable tokens of an output layer, each verdict with a witness or a certificate."""

from wideneck.audit.argmaxable.find import find_unargmaxable as find_unargmaxable
from wideneck.audit.argmaxable.find import self_test_witness as self_test_witness
from wideneck.audit.argmaxable.result import Argmaxable as Argmaxable
from wideneck.audit.argmaxable.result import Certificate as Certificate
from wideneck.audit.argmaxable.result import Tie as Tie
from wideneck.audit.argmaxable.result import TokenRef as TokenRef
from wideneck.audit.argmaxable.result import Unargmaxable as Unargmaxable
from wideneck.audit.argmaxable.result import Witness as Witness
