-- One row an enrolled person: what it was assigned, how likely, and what it earned in its window.
-- $kind: 1 visitor, 2 customer, the bit of unit_kinds by which an event counts for it.
WITH reached AS (
  SELECT event_no, unnest(unit_nos) AS unit_no, unnest(unit_kinds) AS kinds FROM events
  WHERE $store IS NULL OR store = $store),
enrolled AS (  -- a person's earliest enrolment serves
  SELECT * FROM (
    SELECT coalesce(p.person_no, a.unit_no) AS person, a.variant, a.propensity, a.candidates, a.segment, a.at_us,
      row_number() OVER (
        PARTITION BY coalesce(p.person_no, a.unit_no) ORDER BY a.at_us, a.unit_no, a.period) AS place
    FROM assignments a LEFT JOIN persons p ON p.unit_no = a.unit_no
    WHERE a.experiment = $experiment AND ($store IS NULL OR a.store = $store)) WHERE place = 1),
touched AS (
  SELECT DISTINCT coalesce(p.person_no, r.unit_no) AS person, r.event_no
  FROM reached r LEFT JOIN persons p ON p.unit_no = r.unit_no
  WHERE (r.kinds & CASE WHEN p.person_no IS NULL THEN $kind ELSE 3 END) <> 0),
bought AS (
  SELECT e.person, o.order_id, o.currency, o.amount_minor, o.cost_minor
  FROM enrolled e JOIN touched t ON t.person = e.person JOIN events o ON o.event_no = t.event_no
  WHERE o.type = 'order' AND o.occurred_at_us >= e.at_us AND o.occurred_at_us < e.at_us + $window_us),
adjusted AS (
  SELECT order_id, sum(coalesce(amount_minor, 0)) AS amount, sum(coalesce(cost_minor, 0)) AS cost
  FROM events WHERE type = 'order_adjusted' GROUP BY order_id),
refunded AS (
  SELECT b.person, b.order_id, sum(coalesce(r.amount_minor, 0)) AS stated,
    sum(coalesce(r.cost_recovered_minor, 0)) AS recovered_stated,
    max(CASE WHEN r.amount_minor IS NULL THEN 1 ELSE 0 END) AS takes_rest,
    sum(CASE WHEN r.cost_recovered_minor IS NULL AND r.amount_minor IS NOT NULL
      THEN CAST(r.recovered_rate_ppm AS DECIMAL(8, 0)) * CAST(r.amount_minor AS DECIMAL(14, 0)) ELSE 0 END) AS rated,
    max(CASE WHEN r.amount_minor IS NOT NULL OR r.cost_recovered_minor IS NOT NULL THEN 0
      WHEN r.type = 'cancel' THEN 1000000 ELSE r.recovered_rate_ppm END) AS rest_rate
  FROM bought b JOIN events r ON r.order_id = b.order_id
  WHERE r.type IN ('refund', 'cancel') AND (r.currency IS NULL OR r.currency = b.currency)
  GROUP BY b.person, b.order_id),
balance AS (
  SELECT b.person, coalesce(r.takes_rest, 0) AS takes_rest,
    coalesce(r.stated, 0) AS stated, coalesce(r.recovered_stated, 0) AS recovered_stated,
    coalesce(r.rated, 0) AS rated, coalesce(r.rest_rate, 0) AS rest_rate,
    greatest(0, b.amount_minor + coalesce(a.amount, 0)) AS amount, b.cost_minor + coalesce(a.cost, 0) AS cost
  FROM bought b LEFT JOIN adjusted a ON a.order_id = b.order_id
  LEFT JOIN refunded r ON r.person = b.person AND r.order_id = b.order_id),
fraction AS (  -- the cost that came back, as a fraction: in integers to the end
  SELECT *, CASE WHEN takes_rest = 1 THEN amount ELSE least(stated, amount) END AS back,
    CAST(cost AS DECIMAL(12, 0)) * CAST(rated + rest_rate * (CASE WHEN amount > 0
      THEN greatest(0, amount - stated) ELSE greatest(stated, 1) END) AS DECIMAL(26, 0))
      + CAST(recovered_stated AS DECIMAL(12, 0)) * CAST(1000000 * greatest(amount, stated, 1) AS DECIMAL(26, 0)) AS num,
    CAST(1000000 * greatest(amount, stated, 1) AS DECIMAL(26, 0)) AS den
  FROM balance),
whole AS (
  SELECT *, CAST(round((num - num % den) / den) AS BIGINT) AS floored, 2 * (num % den) AS twice FROM fraction),
restated AS (  -- half to even
  SELECT *, least(greatest(cost, 0), floored + CASE WHEN twice > den OR (twice = den AND floored % 2 = 1)
    THEN 1 ELSE 0 END) AS recovered FROM whole),
outcomes AS (
  SELECT person, sum(amount - back) AS net_revenue, sum(amount - cost - back + recovered) AS margin,
    sum(CASE WHEN cost IS NULL THEN 1 ELSE 0 END) AS cost_unknown
  FROM restated GROUP BY person)
SELECT e.variant, e.propensity, e.candidates, coalesce(e.segment, '') AS segment, e.at_us,
  CASE WHEN o.person IS NULL THEN 0 ELSE 1 END AS converted,
  CAST(coalesce(o.net_revenue, 0) AS DOUBLE) AS net_revenue, CAST(coalesce(o.margin, 0) AS DOUBLE) AS margin,
  CAST(coalesce(o.cost_unknown, 0) AS BIGINT) AS cost_unknown
FROM enrolled e LEFT JOIN outcomes o ON o.person = e.person
ORDER BY e.at_us, e.person
