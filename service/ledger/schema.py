"""The tables as SQLAlchemy Core sees them: what every statement of the service is written with."""

from typing import cast

from sqlalchemy import Table
from sqlmodel import SQLModel

from service.ledger import archive_tables, derived_tables, tables


def _table(row: type[SQLModel]) -> Table:
    return cast(Table, row.__dict__["__table__"])


store = _table(tables.StoreRow)
api_key = _table(tables.KeyRow)
experiment = _table(tables.ExperimentRow)
variant = _table(tables.VariantRow)
policy_version = _table(tables.PolicyRow)
guardrail_change = _table(tables.GuardrailChangeRow)
operations_mark = _table(tables.OperationsMarkRow)
answer_count = _table(tables.AnswerCountRow)
analysis = _table(tables.AnalysisRow)
candidate_set = _table(tables.CandidateSetRow)
unit = _table(tables.UnitRow)
unit_key = _table(tables.UnitKeyRow)
progress = _table(tables.ProgressRow)
person = _table(tables.PersonRow)
assignment = _table(tables.AssignmentRow)
decision_context = _table(tables.DecisionContextRow)
enrolment_features = _table(tables.EnrolmentFeaturesRow)
shown = _table(tables.ShownRow)
event = _table(tables.EventRow)
event_by_key = _table(tables.EventByKeyRow)
event_unit = _table(tables.EventUnitRow)
unit_event = _table(tables.UnitEventRow)
mark = _table(derived_tables.MarkRow)
order_balance = _table(derived_tables.OrderBalanceRow)
unit_total = _table(derived_tables.UnitTotalRow)
cell = _table(derived_tables.CellRow)
cart_timer = _table(derived_tables.CartTimerRow)
archive = _table(archive_tables.ArchiveRow)
archive_file = _table(archive_tables.ArchiveFileRow)
archived_event = _table(archive_tables.ArchivedEventRow)
archived_late = _table(archive_tables.ArchivedLateRow)
archived_order = _table(archive_tables.ArchivedOrderRow)
