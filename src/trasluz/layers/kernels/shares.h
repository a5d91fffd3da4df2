// What one thread does of a product or of attention. For block_step.cpp, whose threads go through a whole step together;
// what is computed stands in the file of each kernel.

#pragma once

#include <cstdint>

// int8_product.cpp: whether so many rows go through the matrix unit, how many bytes rounded rows take, the rows from
// `begin` up to `end` of them rounded, and of their product the outputs from `begin`, a multiple of 32, up to `end`.
bool int8_takes_tiles(std::int64_t rows, std::int64_t depth);
std::int64_t bytes_of_rounded(std::int64_t rows, std::int64_t depth);
void round_rows(const float* x, std::int64_t rows, std::int64_t inputs, std::int64_t depth, std::int64_t begin,
                std::int64_t end, std::uint8_t* rounded, float* row_scale);
void int8_outputs(const std::uint8_t* rounded, const float* row_scale, std::int64_t rows, std::int64_t depth,
                  const std::int8_t* weight, const std::int32_t* offset, const float* weight_scale, const float* bias,
                  std::int64_t outputs, std::int64_t begin, std::int64_t end, float* y);

// few_rows.cpp: the outputs from `begin`, which is a multiple of 32, up to `end`.
void few_rows_outputs(const float* x, std::int64_t rows, std::int64_t inputs, const float* w, const float* bias,
                      std::int64_t outputs, std::int64_t begin, std::int64_t end, float* y);

// attention_step.cpp: the heads from `begin` up to `end`, all of which remember for themselves.
void attention_step_heads(const float* query, std::int64_t rows, std::int64_t heads, std::int64_t head_dim,
                          const void* key, const void* value, bool is_bfloat, const std::int32_t* table,
                          std::int64_t table_width, const std::int64_t* first, std::int64_t step,
                          const std::int64_t* count, std::int64_t begin, std::int64_t end, float* context);

// text_attention.cpp: the contexts of some heads of texts, of which every query sees all; zeros outside of texts. From one
// position to the next lie `step` numbers.
void text_attention_heads(const float* query, const float* key, const float* value, std::int64_t step,
                          std::int64_t texts, const std::int64_t* first, const std::int64_t* count,
                          std::int64_t positions, std::int64_t heads, std::int64_t head_dim, float* context);
