"""What the typed routes said of faults found after the types are right, by the names of the cases."""

from __future__ import annotations

CONFLICT = "was recorded with other content, which stands; send corrections as new events"
REMEDIES: dict[str, str] = {
    "a refund in another currency": "refund in the order's currency, EUR, or leave currency out",
    "a currency unknown": "use an ISO 4217 code, e.g. EUR",
    "a currency in small letters": "use an ISO 4217 code, e.g. EUR",
    "money no ledger can hold": (
        "this is more than 1000000000000000 minor units of EUR: check amount and rate"
    ),
    "an event_id of ours": "choose an event_id that does not begin with rialto:",
    "nobody": "say who: unit_id, ids or a decision_id",
    "somebody twice": "send unit_id or ids, not both",
    "a clock a day ahead": "more than 5 minutes ahead of the server: set the clock",
    "100 days ago": "older than 90 days needs a key with scope import",
    "a decision made up": "send a decision_id this store issued",
    "a decision of another store": "send a decision_id this store issued",
    "a decision of another unit": "name the unit the decision was made for, or leave it out",
    "a score above its scale": "a score is at most its scale",
    "properties within properties": "write text, a number, true, false or null",
    "identify without a customer": "name the customer: unit_id or ids.customer",
    "a visitor of another customer": (
        "this visitor is linked to another customer already; the first link stands"
    ),
    "a customer as a visitor": "this id is a customer with visitors of its own and cannot become another's",
    "other content under a key": f"this event_id {CONFLICT}",
    "another order of the id": f"this order_id {CONFLICT}",
    "another refund of the id": f"this refund_id {CONFLICT}",
    "a list of 1,001": "send at most 1000 events, found 1001",
    "a list and more": "a list of events has the field events only",
    "an experiment unknown": "this store has no experiment 'ghost'",
    "no touchpoint": "name the touchpoint, or an experiment",
    "an ask of two": "send unit_id or ids, not both",
    "a context of lists": "write text, a number, true, false or null",
    "a context of 65": "keep at most 64 keys, found 65",
    "a cart of 201": "keep at most 200 items, found 201",
    "history without import": "replaying history needs a key with scope import",
    "a preview without import": "replaying history needs a key with scope import",
    "a variant without force": "send this with mode forced only",
    "forced without a variant": "mode forced carries variant and propensity",
    "forced without propensity": "mode forced carries variant and propensity",
    "forced to a ghost": "use one of none, socks",
    "an ask from tomorrow": "more than 5 minutes ahead of the server: set the clock",
    "an ask before all calendars": "write a time of 1970 or later",
    "an event before all calendars": "write a time of 1970 or later",
}
