#include "tests/load/shop_writes.h"

#include <array>

namespace load {
namespace {

using Text = std::string;

// Two sets of values: ordinary ones, and the ones that break careless code.
Text every_type_values(std::int64_t seq) {
  if (seq % 20 < 10) {
    return "true, 1, -2, 3, 1.5, 2.25, 12345.678900, '12.34', E'line\\nnext\\ttab \\\\ back \"q\" ''s', "
           "'varchar', 'pad', 'x', "
           "'a name', '\\x00ff10'::bytea, '2024-02-29', '12:34:56.789', '12:34:56+02', '2024-02-29 "
           "12:34:56.123456', "
           "clock_timestamp(), '1 year 2 mons 3 days 04:05:06.7', md5(random()::text)::uuid, '{\"b\": 1,  "
           "\"a\": [null, 2]}', "
           "'{\"b\": 1, \"a\": \"\\u00e9\"}', '192.168.1.5/24', '10.0.0.0/8', '08:00:2b:01:02:03', "
           "'08:00:2b:01:02:03:04:05', B'10101010', B'101', '(1,2)', '{1,2,3}', '[(1,2),(3,4)]', "
           "'(3,4),(1,2)', "
           "'[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(1,2),3>', '[1,10)', '(1.5,]', "
           "'[2024-01-01,2024-02-01)', 'fat:2A cat:3', 'fat & !cat', 42, '16/B374D848', '{1,NULL,3}', "
           "ARRAY['a','b,c','\"d\"',NULL,''], 'paid', '{new,sent}', 9.99, ROW('S, \"1\"', '1', NULL), "
           "ARRAY[ROW('a','b','c'), NULL]::shop.address[], '<a b=\"1\">t</a>tail', "
           "repeat(md5(random()::text), 200)";
  }
  return "NULL, -32768, 2147483647, -9223372036854775808, '-Infinity', 'NaN', 'NaN', '-0.01', '', '', '', "
         "'', '', ''::bytea, "
         "'0044-03-15 BC', '24:00:00', '00:00:00-15:59', '-infinity', 'infinity', '-178000000 years', NULL, "
         "'null', 'null', "
         "'::1', 'fe80::/10', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff', B'00000000', B'', "
         "'(NaN,-1e300)', "
         "'{0,1,0}', '[(0,0),(0,0)]', '(0,0),(0,0)', '((0,0))', '((0,0))', '<(0,0),0>', 'empty', '(,)', "
         "'[,infinity]', '', "
         "''::tsquery, 4294967295, '0/0', '[0:1]={5,6}', '{{a,b},{c,NULL}}', 'returned', '{}', 0, "
         "ROW(NULL, NULL, NULL), '{}', '', '\xF0\x9F\x90\x98 \xC3\xA4'";
}

Text insert_every_type(int client, std::int64_t seq) {
  return "INSERT INTO shop.every_type VALUES (" + std::to_string(client) + ", " + std::to_string(seq) + ", " +
         every_type_values(seq) + ")";
}

}  // namespace

std::string shop_write_sql(const ShopSize& size, int client, std::int64_t seq) {
  const auto nth = [seq](int count) { return std::to_string(1 + seq * 7 % count); };
  const Text customer = "md5('customer " + nth(size.customers) + "')::uuid";
  const Text mine = std::to_string(client) + ":" + std::to_string(seq);
  const Text key = "client = " + std::to_string(client) + " AND seq = ";
  switch (seq % kShopWrites) {
    case 0:
      return insert_every_type(client, seq);
    case 1:  // some columns change, the TOASTed one stays
      return "UPDATE shop.every_type SET c_int4 = c_int4 - 1, c_json = '{\"u\": 1}', c_ints = c_ints || 9 "
             "WHERE " +
             key + std::to_string(seq - 1);
    case 2:  // the order of one client; the trigger writes the audit
      return "WITH o AS (INSERT INTO shop.orders(customer) VALUES (" + customer +
             ") RETURNING id) INSERT INTO shop.\"Order Line\" SELECT id, n, " + nth(size.products) +
             ", n FROM o, generate_series(1, 3) n";
    case 3:
      return "UPDATE shop.orders SET state = 'paid' WHERE id = (SELECT max(\"order\") FROM shop.order_audit "
             "a WHERE "
             "\"order\" % 8 = " +
             std::to_string(client % 8) + ")";
    case 4:
      return "INSERT INTO shop.event(kind, body) SELECT k, jsonb_build_object('by', '" + mine +
             "') FROM unnest(ARRAY['click', 'view', 'buy']) k";
    case 5:  // moves a row to another partition
      return "UPDATE shop.event SET kind = CASE kind WHEN 'click' THEN 'view' ELSE 'moved' END "
             "WHERE kind IN ('click', 'view') AND body->>'by' = '" +
             std::to_string(client) + ":" + std::to_string(seq - 1) + "'";
    case 6:
      return "INSERT INTO shop.invoice VALUES (nextval('shop.invoice_no'), " + customer + ", 17.50)";
    case 7:
      return "INSERT INTO shop.product(sku, price, description) VALUES ('" + mine +
             "', 5, repeat(md5(random()::text), 300)); UPDATE shop.product SET stock = stock + 1 WHERE sku = "
             "'" +
             mine + "'";
    case 8:  // the key itself changes
      return "UPDATE shop.every_type SET seq = -seq WHERE " + key + std::to_string(seq - 8);
    default:
      return "DELETE FROM shop.every_type WHERE " + key + std::to_string(-(seq - 29)) +
             "; INSERT INTO shop.customer(id, name) VALUES (md5('" + mine + "')::uuid, 'new')";
  }
}

}  // namespace load
