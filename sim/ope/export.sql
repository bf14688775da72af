-- One row an enrolled person: what it was assigned, how likely, and what it earned in its window.
-- The views are those of sim/exports/views.sql.
WITH enrolled AS (  -- a person's earliest enrolment serves
  SELECT * FROM (
    SELECT person, variant, propensity, candidates, segment, at_us,
      row_number() OVER (PARTITION BY person ORDER BY at_us, unit_no, period) AS place
    FROM enrolments) WHERE place = 1),
bought AS (
  SELECT e.person, o.order_id, o.amount, o.cost
  FROM enrolled e JOIN touched t ON t.person = e.person JOIN adjusted_orders o ON o.event_no = t.event_no
  WHERE o.occurred_at_us >= e.at_us AND o.occurred_at_us < e.at_us + $window_us),
refunded AS (
  SELECT b.person, b.order_id, sum(coalesce(r.amount_minor, 0)) AS stated,
    sum(coalesce(r.cost_recovered_minor, 0)) AS recovered_stated,
    max(CASE WHEN r.amount_minor IS NULL THEN 1 ELSE 0 END) AS takes_rest,
    sum(CASE WHEN r.cost_recovered_minor IS NULL AND r.amount_minor IS NOT NULL
      THEN CAST(r.recovered_rate_ppm AS DECIMAL(8, 0)) * CAST(r.amount_minor AS DECIMAL(14, 0)) ELSE 0 END) AS rated,
    max(CASE WHEN r.amount_minor IS NOT NULL OR r.cost_recovered_minor IS NOT NULL THEN 0
      WHEN r.type = 'cancel' THEN 1000000 ELSE r.recovered_rate_ppm END) AS rest_rate
  FROM bought b JOIN refunds r ON r.order_id = b.order_id
  GROUP BY b.person, b.order_id),
balance AS (
  SELECT b.person, coalesce(r.takes_rest, 0) AS takes_rest,
    coalesce(r.stated, 0) AS stated, coalesce(r.recovered_stated, 0) AS recovered_stated,
    coalesce(r.rated, 0) AS rated, coalesce(r.rest_rate, 0) AS rest_rate,
    b.amount, b.cost
  FROM bought b LEFT JOIN refunded r ON r.person = b.person AND r.order_id = b.order_id),
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
