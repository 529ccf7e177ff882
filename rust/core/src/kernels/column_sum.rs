//! column_sum
