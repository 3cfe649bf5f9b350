"""Unargmaxable tokens of an output layer, each verdict with a witness or a certificate."""

from wideneck.audits.argmaxable.find import find_proof as find_proof
from wideneck.audits.argmaxable.find import find_unargmaxable as find_unargmaxable
from wideneck.audits.argmaxable.find import self_test_witness as self_test_witness
from wideneck.audits.argmaxable.result import Argmaxable as Argmaxable
from wideneck.audits.argmaxable.result import Certificate as Certificate
from wideneck.audits.argmaxable.result import Tie as Tie
from wideneck.audits.argmaxable.result import TokenRef as TokenRef
from wideneck.audits.argmaxable.result import Unargmaxable as Unargmaxable
from wideneck.audits.argmaxable.result import Witness as Witness
