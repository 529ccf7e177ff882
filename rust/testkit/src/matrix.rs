//! Matrices in f64, by the textbook: products, singular values, and Newton-Schulz steps.

/// A row-major matrix.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements.
    pub data: Vec<f64>,
}

impl Matrix {
    /// The matrix of these elements.
    pub fn new(rows: usize, cols: usize, data: Vec<f64>) -> Self {
        assert_eq!(data.len(), rows * cols);
        Matrix { rows, cols, data }
    }

    /// The columns from `first` on, `cols` of them.
    pub fn columns(&self, first: usize, cols: usize) -> Matrix {
        let data = self.data.chunks(self.cols).flat_map(|row| row[first..first + cols].to_vec()).collect();
        Matrix::new(self.rows, cols, data)
    }

    /// The transpose.
    pub fn t(&self) -> Matrix {
        let data = (0..self.rows * self.cols).map(|i| self.data[i % self.rows * self.cols + i / self.rows]).collect();
        Matrix::new(self.cols, self.rows, data)
    }

    /// `self other`
    pub fn times(&self, other: &Matrix) -> Matrix {
        assert_eq!(self.cols, other.rows);
        let mut out = vec![0.0; self.rows * other.cols];
        for i in 0..self.rows {
            for k in 0..self.cols {
                let x = self.data[i * self.cols + k];
                for j in 0..other.cols {
                    out[i * other.cols + j] += x * other.data[k * other.cols + j];
                }
            }
        }
        Matrix::new(self.rows, other.cols, out)
    }

    /// `f` of every element and the element of `other` in its place.
    pub fn with(&self, other: &Matrix, f: impl Fn(f64, f64) -> f64) -> Matrix {
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| f(a, b)).collect();
        Matrix::new(self.rows, self.cols, data)
    }

    /// The root of the sum of squares.
    pub fn norm(&self) -> f64 {
        self.data.iter().map(|x| x * x).sum::<f64>().sqrt()
    }

    /// Five steps of Muon's quintic iteration, term by term.
    pub fn newton_schulz(&self) -> Matrix {
        if self.rows > self.cols {
            return self.t().newton_schulz().t();
        }
        let norm = self.norm().max(1e-7);
        let mut x = Matrix { data: self.data.iter().map(|x| x / norm).collect(), ..self.clone() };
        for _ in 0..5 {
            let a = x.times(&x.t());
            let third = a.times(&x);
            let fifth = a.times(&third);
            x = x.with(&third, |x, y| 3.4445 * x - 4.7750 * y).with(&fifth, |x, y| x + 2.0315 * y);
        }
        x
    }

    /// The singular values, by one-sided Jacobi rotations (Hestenes 1958), in no order.
    pub fn singular_values(&self) -> Vec<f64> {
        let mut rows: Vec<Vec<f64>> = match self.rows <= self.cols {
            true => self.data.chunks(self.cols.max(1)).map(<[f64]>::to_vec).collect(),
            false => return self.t().singular_values(),
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for _ in 0..40 {
            let mut turned = false;
            for i in 0..rows.len() {
                let (head, tail) = rows.split_at_mut(i + 1);
                let a = &mut head[i];
                for b in tail {
                    let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
                    if ab.abs() <= 1e-14 * (aa * bb).sqrt() {
                        continue;
                    }
                    turned = true;
                    let zeta = (bb - aa) / (2.0 * ab);
                    let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                    let c = 1.0 / (1.0 + t * t).sqrt();
                    for (x, y) in a.iter_mut().zip(b) {
                        (*x, *y) = (c * (*x - t * *y), c * (t * *x + *y));
                    }
                }
            }
            if !turned {
                break;
            }
        }
        rows.iter().map(|row| dot(row, row).sqrt()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_of_a_known_matrix() {
        let mut got = Matrix::new(2, 3, vec![3.0, 2.0, 2.0, 2.0, 3.0, -2.0]).singular_values();
        got.sort_by(f64::total_cmp);
        assert!((got[0] - 3.0).abs() < 1e-12 && (got[1] - 5.0).abs() < 1e-12, "{got:?}");
    }
}
