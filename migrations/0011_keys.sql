-- Keys that no product has any more are removed. What is counted under a key is found by the key then.
CREATE INDEX key_count_key ON key_count (key);
