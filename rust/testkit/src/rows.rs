//! Naive twins in f64 of the row reductions and elementwise kernels. Matrices are row-major slices of `c` columns.

use crate::special::erf;

/// Layer normalisation of rows.
pub fn layer_norm(x: &[f64], weight: &[f64], bias: Option<&[f64]>, eps: f64) -> Vec<f64> {
    let c = weight.len();
    x.chunks(c)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / c as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / c as f64;
            let rstd = 1.0 / (variance + eps).sqrt();
            (0..c).map(move |j| (row[j] - mean) * rstd * weight[j] + bias.map_or(0.0, |b| b[j]))
        })
        .collect()
}

/// RMS normalisation of rows; `offset` is added to the weight.
pub fn rms_norm(x: &[f64], weight: &[f64], offset: f64, eps: f64) -> Vec<f64> {
    let c = weight.len();
    x.chunks(c)
        .flat_map(|row| {
            let rstd = 1.0 / (row.iter().map(|v| v * v).sum::<f64>() / c as f64 + eps).sqrt();
            (0..c).map(move |j| row[j] * rstd * (offset + weight[j]))
        })
        .collect()
}

/// The exact GELU.
pub fn gelu_erf(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2f64.sqrt()))
}

/// The tanh form of GELU.
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// `x * sigmoid x`
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// Softmax of rows of `c` columns; zeros for a row of only `-inf`.
pub fn softmax(x: &[f64], c: usize) -> Vec<f64> {
    x.chunks(c)
        .flat_map(|row| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|v| (v - max).exp()).sum();
            row.iter().map(move |v| if max == f64::NEG_INFINITY { 0.0 } else { (v - max).exp() / sum })
        })
        .collect()
}

/// Log-softmax of rows of `c` columns.
pub fn log_softmax(x: &[f64], c: usize) -> Vec<f64> {
    x.chunks(c)
        .flat_map(|row| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = row.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
            row.iter().map(move |v| v - max - log_sum)
        })
        .collect()
}

/// The loss of each row of `c` logits; 0 where the target is `ignore_index`.
pub fn cross_entropy(x: &[f64], c: usize, targets: &[i64], ignore_index: i64, label_smoothing: f64) -> Vec<f64> {
    let log_p = log_softmax(x, c);
    let loss = |(row, &t): (&[f64], &i64)| {
        if t == ignore_index {
            return 0.0;
        }
        let mean = row.iter().sum::<f64>() / c as f64;
        -(1.0 - label_smoothing) * row[t as usize] - if label_smoothing > 0.0 { label_smoothing * mean } else { 0.0 }
    };
    log_p.chunks(c).zip(targets).map(loss).collect()
}

/// Rotates the pair `(a, b)` of every `pairs` entry of a vector of `dim` numbers by `position * theta^(-2i / dim)`.
pub fn rope(x: &[f64], position: f64, theta: f64, pairs: &[(usize, usize)]) -> Vec<f64> {
    let mut y = x.to_vec();
    for (i, &(a, b)) in pairs.iter().enumerate() {
        let angle = position * theta.powf(-2.0 * i as f64 / x.len() as f64);
        y[a] = x[a] * angle.cos() - x[b] * angle.sin();
        y[b] = x[a] * angle.sin() + x[b] * angle.cos();
    }
    y
}
