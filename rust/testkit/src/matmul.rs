//! Matrix multiplication as the formula says it, in f64.

use ndarray::{Array2, ArrayView2};

/// `c[i, j] = sum over k of a[i, k] b[k, j]`.
pub fn matmul(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f64> {
    assert_eq!(a.ncols(), b.nrows());
    let mut c = Array2::<f64>::zeros((a.nrows(), b.ncols()));
    for i in 0..a.nrows() {
        for k in 0..a.ncols() {
            let x = f64::from(a[[i, k]]);
            for j in 0..b.ncols() {
                c[[i, j]] += x * f64::from(b[[k, j]]);
            }
        }
    }
    c
}

/// `sum over k of |a[i, k] b[k, j]|`: what the rounding error of an element is measured against.
pub fn magnitudes(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f64> {
    matmul(a.mapv(f32::abs).view(), b.mapv(f32::abs).view())
}
