"""A shop's log from a CSV or Parquet file: rows by the mapping's rules, cancellations matched if need be."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from math import nan
from pathlib import Path
from zoneinfo import ZoneInfo

from experiments.money import exponent
from sim.fitting.gathering import Gathered, Order, shop_log
from sim.fitting.log import DAY_S, ShopLog, Tells
from sim.fitting.mapping import Clock, FitMapping, Kind, Rule
from sim.fitting.numbers import parse_number
from sim.ope.table import file_rows
from sim.replay.errors import BadFile
from sim.replay.matching import Invoice, Line, match_cancellations
from sim.replay.source import parse_time
from sim.replay.values import to_minor

Cells = Mapping[str, str]


def read_log(path: Path, mapping: FitMapping) -> ShopLog:
    """The log of a file, or of an export; BadFile names the row and column of the first fault."""
    if mapping.export is not None:
        from sim.fitting.export import read_export

        return shop_log(read_export(path, mapping), mapping)
    if path.is_dir():
        raise BadFile(f"{path} is a directory; a mapping with `export` reads those of `rialto export`")
    reader = _Reader(path, mapping)
    for number, cells in file_rows(path, mapping.columns, mapping.delimiter, mapping.encoding):
        if mapping.where.holds(cells, number):
            reader.row(number, cells)
    return shop_log(reader.done(), mapping)


class _Reader:
    """Rows one after the other."""

    def __init__(self, path: Path, mapping: FitMapping) -> None:
        self.path, self.mapping = path, mapping
        self.control, self.variants = "", ()
        experiment = mapping.experiment
        if mapping.variant is not None and experiment is not None:
            self.control = experiment.control.key
            others = [one.key for one in experiment.variants if one.key != self.control]
            self.variants = (self.control, *others)
        self.found = Gathered(_tells(mapping), ZoneInfo(mapping.zone), self.control, self.variants)
        self.rows = 0
        self.refunds: list[tuple[str, float, float | None, float]] = []
        self.invoices: dict[str, Invoice] = {}
        self.has_hours = False

    def row(self, number: int, cells: Cells) -> None:
        """All that a row tells."""
        self.rows += 1
        for rule in self.mapping.rules:
            if rule.when.holds(cells, number):
                self._tell(rule, number, cells)

    def _tell(self, rule: Rule, number: int, cells: Cells) -> None:
        unit, at_s = self._unit(number, cells), self._at(rule, number, cells)
        match rule.kind:
            case Kind.VISIT:
                self.found.visit(unit, at_s, self._segment(cells), self._variant(cells))
            case Kind.EXPOSURE:
                self.found.seen.add(unit)
            case Kind.TAKE:
                self.found.took.add(unit)
            case Kind.ORDER:
                self._order(rule, unit, at_s, number, cells)
            case Kind.REFUND:
                self._refund(rule, unit, at_s, number, cells)

    def _order(self, rule: Rule, unit: str, at_s: float, number: int, cells: Cells) -> None:
        key = f"row {number}" if rule.order is None else cells[rule.order].strip()
        known = self.found.orders.get(key)
        if known is not None and not rule.is_lines and rule.sku is None:
            self.found.notes["orders that stand there twice, counted once"] += 1
            return
        order = known or Order(unit, at_s)
        if known is None:
            self.found.orders[key] = order
            self.found.saw(at_s)
        if not self.found.tells.visits:
            self.found.visit(order.unit, order.at_s, self._segment(cells), "")
        order.at_s = min(order.at_s, at_s)
        amount = self._amount(rule, number, cells)
        cost = nan if rule.cost is None else self._money(cells[rule.cost], rule.cost, number)
        sku = "" if rule.sku is None else cells[rule.sku].strip()
        order.amount = amount if known is None else order.amount + amount
        order.cost = cost if known is None else order.cost + cost
        if sku:
            order.items[sku] = order.items.get(sku, 0.0) + amount
        if rule.is_lines and self._matches:
            self._line(rule, key, unit, at_s, number, cells, is_cancellation=False)

    def _refund(self, rule: Rule, unit: str, at_s: float, number: int, cells: Cells) -> None:
        if rule.is_lines:
            assert rule.order is not None
            self._line(rule, cells[rule.order].strip(), unit, at_s, number, cells, is_cancellation=True)
            return
        assert rule.order is not None
        # money given back is written below 0 by some shops, above by others
        amount = None if rule.amount is None else abs(self._minor(cells[rule.amount], rule.amount, number))
        back = nan if rule.recovered is None else self._money(cells[rule.recovered], rule.recovered, number)
        self.refunds.append((cells[rule.order].strip(), at_s, amount, back))

    def _line(
        self,
        rule: Rule,
        key: str,
        unit: str,
        at_s: float,
        number: int,
        cells: Cells,
        *,
        is_cancellation: bool,
    ) -> None:
        assert rule.sku is not None
        assert rule.quantity is not None
        assert rule.price is not None
        found = self.invoices.get(key)
        if found is None:
            at = datetime.fromtimestamp(at_s, UTC)
            found = self.invoices[key] = Invoice(key, unit, at, number, is_cancellation)
        quantity, price = (
            self._count(cells[rule.quantity], rule.quantity, number),
            self._price(rule, cells, number),
        )
        # cancelled goods are counted below 0 by some shops, above by others
        found.lines.append(
            Line(cells[rule.sku].strip(), abs(quantity) if is_cancellation else quantity, price)
        )

    @property
    def _matches(self) -> bool:
        return any(rule.kind is Kind.REFUND and rule.is_lines for rule in self.mapping.rules)

    def done(self) -> Gathered:
        """All of it, once every row is read: a refund may stand before its order."""
        found = self.found
        if not self.rows:
            raise BadFile(f"{self.path.name} holds no row to fit")
        if not found.orders:
            raise BadFile(
                f"{self.path.name} holds no order: none of its {self.rows} rows meets a rule of kind order; "
                "look at its `when`"
            )
        for match in match_cancellations(self.invoices.values()):
            number = match.order.number if match.order else match.cancellation.number
            amount = float(to_minor(match.amount, self.mapping.currency))
            found.refund(number, match.cancellation.at.timestamp(), amount, nan)
        for refund in self.refunds:
            found.refund(*refund)
        if isinstance(self.mapping.time, Clock):
            self._spread(self.mapping.time)
        found.tells = _tells(self.mapping, has_hours=self.has_hours)
        return found

    def _unit(self, number: int, cells: Cells) -> str:
        source = self.mapping.unit
        if not source.columns:
            return f"{source.row_prefix}{number}"
        for place, column in enumerate(source.columns):
            cell = cells[column].strip()
            if cell:
                return f"{column}:{cell}" if place else cell
        named = ", ".join(source.columns)
        remedy = f"name a second column (`unit: [{named}, ...]`), or leave such rows out by `where`"
        raise BadFile(f"no unit: column {named} is empty; {remedy}", number)

    def _at(self, rule: Rule, number: int, cells: Cells) -> float:
        given = self.mapping.time
        if given is None or isinstance(given, Clock):
            return float(self.rows)
        column = given.column if rule.time is None else rule.time
        at = parse_time(cells[column], type(given)(column, given.format, given.zone), number)
        if not self.has_hours:
            self.has_hours = at.astimezone(given.zone).time() != time()
        return at.timestamp()

    def _spread(self, clock: Clock) -> None:
        """Row numbers become times: evenly over the days."""
        start = datetime.combine(clock.start, time(), tzinfo=self.found.zone).timestamp()
        step = clock.days * DAY_S / self.rows
        for one in (*self.found.visits.values(), *self.found.orders.values()):
            one.at_s = start + (one.at_s - 1) * step
        for order in self.found.orders.values():
            order.refund_s = start + (order.refund_s - 1) * step
        self.found.first_s = start
        # nothing is young in a log without a clock: every row is the whole story of its customer
        self.found.last_s = start + clock.days * DAY_S + timedelta(days=3650).total_seconds()

    def _segment(self, cells: Cells) -> str:
        return "/".join(cells[column].strip() for column in self.mapping.segment)

    def _variant(self, cells: Cells) -> str:
        column = self.mapping.variant
        if column is None:
            return ""
        cell = cells[column.column].strip()
        return column.keys.get(cell, cell)

    def _amount(self, rule: Rule, number: int, cells: Cells) -> float:
        if rule.is_lines:
            assert rule.quantity is not None
            assert rule.price is not None
            quantity = self._count(cells[rule.quantity], rule.quantity, number)
            return float(
                (quantity * self._price(rule, cells, number)).scaleb(exponent(self.mapping.currency))
            )
        return nan if rule.amount is None else self._money(cells[rule.amount], rule.amount, number)

    def _price(self, rule: Rule, cells: Cells, number: int) -> Decimal:
        assert rule.price is not None
        return parse_number(cells[rule.price], rule.price, number, self.mapping.decimal)

    def _count(self, cell: str, column: str, number: int) -> int:
        found = parse_number(cell, column, number, self.mapping.decimal)
        if found != found.to_integral_value():
            raise BadFile(f"column {column!r} holds {cell!r} where a whole number is needed", number)
        return int(found)

    def _money(self, cell: str, column: str, number: int) -> float:
        minor = self._minor(cell, column, number)
        if minor < 0:
            fault = f"column {column!r} holds {cell!r}; money is not below 0"
            raise BadFile(f"{fault}: tell such rows as refunds, by a rule with `when: {column} < 0`", number)
        return minor

    def _minor(self, cell: str, column: str, number: int) -> float:
        return float(
            to_minor(parse_number(cell, column, number, self.mapping.decimal), self.mapping.currency)
        )


def _tells(mapping: FitMapping, *, has_hours: bool = False) -> Tells:
    orders = [rule for rule in mapping.rules if rule.kind is Kind.ORDER]
    refunds = [rule for rule in mapping.rules if rule.kind is Kind.REFUND]
    has_clock = not isinstance(mapping.time, Clock)
    own_time = any(rule.time is not None for rule in orders) or bool(mapping.unit.columns)
    return Tells(
        visits=mapping.has(Kind.VISIT),
        days=has_clock,
        hours=has_clock and has_hours and own_time,
        amounts=all(rule.is_lines or rule.amount is not None for rule in orders),
        costs=all(rule.cost is not None for rule in orders),
        refunds=bool(refunds),
        refund_times=bool(refunds) and has_clock,
        recovered=any(rule.recovered is not None for rule in refunds),
        exposures=mapping.has(Kind.EXPOSURE),
        takes=mapping.has(Kind.TAKE),
        goods=any(rule.sku is not None for rule in orders),
        returns=bool(mapping.unit.columns) and has_clock,
    )
