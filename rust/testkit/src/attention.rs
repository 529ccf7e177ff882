//! Causal attention in f64, one loop an index, with its gradients by the textbook.

/// Sizes and options of a naive attention; arrays are flat in the order of the shapes.
#[derive(Clone, Debug, Default)]
pub struct Attention {
    /// Sequences.
    pub batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Queries of a sequence; they sit at the end of the keys.
    pub queries: usize,
    /// Keys of a sequence.
    pub keys: usize,
    /// Coordinates of a head.
    pub dim: usize,
    /// Factor of the scores; `1 / sqrt(dim)` if none.
    pub scale: Option<f64>,
    /// Keys that a query sees at most.
    pub window: Option<usize>,
    /// The first key of each query's document `(batch, queries)`.
    pub starts: Option<Vec<u32>>,
    /// Bound of the scores.
    pub softcap: Option<f64>,
    /// Factors of the probabilities `(batch, heads, queries, keys)`, for dropout.
    pub factors: Option<Vec<f64>>,
    /// How the numbers that are kept or multiplied are rounded: weights over the largest of a row, probabilities,
    /// gradients of the scores, and the results. Sums and the log-sum-exp stay exact.
    pub round: Option<fn(f64) -> f64>,
}

/// The bfloat16 number nearest to `x`.
fn bf16(x: f64) -> f64 {
    let bits = (x as f32).to_bits();
    f64::from(f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000))
}

/// The gradients of an attention.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// `(batch, heads, queries, dim)`
    pub dq: Vec<f64>,
    /// `(batch, kv_heads, keys, dim)`
    pub dk: Vec<f64>,
    /// `(batch, kv_heads, keys, dim)`
    pub dv: Vec<f64>,
}

/// What one query does: where its arrays start, what it sees, its probabilities.
struct Query {
    q: usize,
    kv: usize,
    row: usize,
    seen: std::ops::Range<usize>,
    p: Vec<f64>,
    slope: Vec<f64>,
    max: f64,
    lse: f64,
}

impl Attention {
    /// The same with bfloat16's roundings.
    pub fn in_bf16(&self) -> Attention {
        Attention { round: Some(bf16), ..self.clone() }
    }

    /// The numbers of `q`.
    pub fn q_len(&self) -> usize {
        self.batch * self.heads * self.queries * self.dim
    }

    fn scale(&self) -> f64 {
        self.scale.unwrap_or(1.0 / (self.dim as f64).sqrt())
    }

    fn rounded(&self, x: f64) -> f64 {
        self.round.map_or(x, |round| round(x))
    }

    fn factor(&self, row: usize, key: usize) -> f64 {
        self.factors.as_ref().map_or(1.0, |factors| factors[row * self.keys + key])
    }

    fn for_each_query(&self, q: &[f64], k: &[f64], mut visit: impl FnMut(Query)) {
        let d = self.dim;
        for row in 0..self.batch * self.heads * self.queries {
            let (head, i) = (row / self.queries, row % self.queries);
            let (b, h) = (head / self.heads, head % self.heads);
            let kv = (b * self.kv_heads + h / (self.heads / self.kv_heads)) * self.keys * d;
            let end = self.keys - self.queries + i + 1;
            let start = self.starts.as_ref().map_or(0, |starts| starts[b * self.queries + i] as usize);
            let seen = start.max(end.saturating_sub(self.window.unwrap_or(end)))..end;
            let mut slope = vec![1.0; seen.len()];
            let mut p: Vec<f64> = seen
                .clone()
                .zip(&mut slope)
                .map(|(j, slope)| {
                    let dot: f64 = (0..d).map(|x| q[row * d + x] * k[kv + j * d + x]).sum();
                    let score = dot * self.scale();
                    let Some(cap) = self.softcap else { return score };
                    let t = (score / cap).tanh();
                    *slope = 1.0 - t * t;
                    cap * t
                })
                .collect();
            let max = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = p.iter().map(|s| (s - max).exp()).sum();
            p.iter_mut().for_each(|s| *s = (*s - max).exp() / sum);
            visit(Query { q: row * d, kv, row, seen, p, slope, max, lse: max + sum.ln() });
        }
    }

    /// The output and the log-sum-exp.
    pub fn forward(&self, q: &[f64], k: &[f64], v: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut out, mut lse) = (vec![0.0; q.len()], Vec::new());
        self.for_each_query(q, k, |query| {
            let sum = (query.lse - query.max).exp();
            for (j, p) in query.seen.clone().zip(&query.p) {
                let weight = self.rounded(p * sum * self.factor(query.row, j)) / sum;
                for x in 0..self.dim {
                    out[query.q + x] += weight * v[query.kv + j * self.dim + x];
                }
            }
            out[query.q..query.q + self.dim].iter_mut().for_each(|x| *x = self.rounded(*x));
            lse.push(query.lse);
        });
        (out, lse)
    }

    /// The gradients for the gradient `dout` of the output.
    pub fn backward(&self, q: &[f64], k: &[f64], v: &[f64], dout: &[f64]) -> Gradients {
        let d = self.dim;
        let out = self.round.map(|_| self.forward(q, k, v).0);
        let mut g = Gradients { dq: vec![0.0; q.len()], dk: vec![0.0; k.len()], dv: vec![0.0; v.len()] };
        self.for_each_query(q, k, |query| {
            let dp: Vec<f64> = query
                .seen
                .clone()
                .map(|j| {
                    let dot: f64 = (0..d).map(|x| dout[query.q + x] * v[query.kv + j * d + x]).sum();
                    dot * self.factor(query.row, j)
                })
                .collect();
            // The same number twice, but for the rounding of the output.
            let mean: f64 = match &out {
                None => dp.iter().zip(&query.p).map(|(dp, p)| dp * p).sum(),
                Some(out) => (query.q..query.q + d).map(|x| out[x] * dout[x]).sum(),
            };
            for (at, j) in query.seen.clone().enumerate() {
                let ds = self.rounded(query.p[at] * (dp[at] - mean) * query.slope[at]) * self.scale();
                let z = self.rounded(query.p[at] * self.factor(query.row, j));
                for x in 0..d {
                    let key = query.kv + j * d + x;
                    g.dv[key] += z * dout[query.q + x];
                    g.dk[key] += ds * q[query.q + x];
                    g.dq[query.q + x] += ds * k[key];
                }
            }
        });
        for gradient in [&mut g.dq, &mut g.dk, &mut g.dv] {
            gradient.iter_mut().for_each(|x| *x = self.rounded(*x));
        }
        g
    }
}
