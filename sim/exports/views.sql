-- What readers of an export have in common, of one store and one experiment; {kind} is the bit of unit_kinds by
-- which an event counts for a unit: 1 visitor, 2 customer.
CREATE VIEW enrolments AS
  SELECT coalesce(p.person_no, a.unit_no) AS person, a.*
  FROM assignments a LEFT JOIN persons p ON p.unit_no = a.unit_no;
CREATE VIEW touched AS  -- whom an event is about; of a person who is linked, whichever id it named
  WITH reached AS (SELECT event_no, unnest(unit_nos) AS unit_no, unnest(unit_kinds) AS kinds FROM events)
  SELECT DISTINCT coalesce(p.person_no, r.unit_no) AS person, r.event_no
  FROM reached r LEFT JOIN persons p ON p.unit_no = r.unit_no
  WHERE (r.kinds & CASE WHEN p.person_no IS NULL THEN {kind} ELSE 3 END) <> 0;
CREATE VIEW adjusted_orders AS
  WITH changes AS (
    SELECT order_id, sum(coalesce(amount_minor, 0)) AS amount, sum(coalesce(cost_minor, 0)) AS cost
    FROM events WHERE type = 'order_adjusted' GROUP BY order_id)
  SELECT o.event_no, o.order_id, o.occurred_at_us, o.currency,
    greatest(0, o.amount_minor + coalesce(c.amount, 0)) AS amount, o.cost_minor + coalesce(c.cost, 0) AS cost
  FROM events o LEFT JOIN changes c ON c.order_id = o.order_id WHERE o.type = 'order';
CREATE VIEW refunds AS  -- one in another currency than its order's counts nowhere
  SELECT r.* FROM events r LEFT JOIN events o ON o.type = 'order' AND o.order_id = r.order_id
  WHERE r.type IN ('refund', 'cancel') AND (r.currency IS NULL OR o.currency IS NULL OR r.currency = o.currency);
