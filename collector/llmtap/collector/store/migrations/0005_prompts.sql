-- Which prompt it was, how long it was, and in which languages.
ALTER TABLE calls
    ADD COLUMN IF NOT EXISTS output_language LowCardinality(String) COMMENT 'ISO 639-1; language is the input''s',
    ADD COLUMN IF NOT EXISTS system_hash String CODEC(ZSTD(1)) COMMENT 'of the system texts as sent',
    ADD COLUMN IF NOT EXISTS template_hash String CODEC(ZSTD(1)) COMMENT 'of the prompt with its variables stripped',
    ADD COLUMN IF NOT EXISTS input_message_count UInt32,
    ADD COLUMN IF NOT EXISTS input_chars UInt32 COMMENT 'of the texts, in characters',
    ADD COLUMN IF NOT EXISTS output_chars UInt32;
