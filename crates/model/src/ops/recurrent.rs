//! Recurrent cells (`numeric.md` §3, §7): every gate is `act((x . W + h . R) + (Wb + Rb))`, both dots contractions.

use hallmark_receipt::{DType, Tensor};

use super::half::in_f32;
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{BLOCK, canonical_f32, contract_f32, elementary, max_f32, min_f32};

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::Onnx,
        name: "RNN",
        versions: &[7, 14, 22],
        attrs: &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "layout",
        ],
        infer: |cx| infer_cell(cx, 2),
        eval: |cx| in_f32(cx, |cx| run(cx, Kind::Rnn)),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "GRU",
        versions: &[7, 14, 22],
        attrs: &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "layout",
            "linear_before_reset",
        ],
        infer: |cx| infer_cell(cx, 2),
        eval: |cx| in_f32(cx, |cx| run(cx, Kind::Gru)),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "LSTM",
        versions: &[7, 14, 22],
        attrs: &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "input_forget",
            "layout",
        ],
        infer: |cx| infer_cell(cx, 3),
        eval: |cx| in_f32(cx, |cx| run(cx, Kind::Lstm)),
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rnn,
    Gru,
    Lstm,
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            Self::Rnn => &["tanh"],
            Self::Gru => &["sigmoid", "tanh"],
            Self::Lstm => &["sigmoid", "tanh", "tanh"],
        }
    }
}

fn infer_cell(cx: &InferCx<'_>, outputs: usize) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let batch_first = cx.attrs().int("layout", 0) == 1;
    let shapes = match (&x.shape, &cx.input(2)?.shape) {
        (Some(x), Some(r)) if x.len() == 3 && r.len() == 3 => {
            let (directions, hidden) = (r[0].clone(), r[2].clone());
            let (seq, batch) = if batch_first { (&x[1], &x[0]) } else { (&x[0], &x[1]) };
            let (seq, batch): (Dim, Dim) = (seq.clone(), batch.clone());
            Some(if batch_first {
                (
                    vec![batch.clone(), seq, directions.clone(), hidden.clone()],
                    vec![batch, directions, hidden],
                )
            } else {
                (
                    vec![seq, directions.clone(), batch.clone(), hidden.clone()],
                    vec![directions, batch, hidden],
                )
            })
        }
        _ => None,
    };
    let (y, h) = shapes.unzip();
    let mut types = vec![TypeInfo { dtype: x.dtype, shape: y }];
    types.extend(vec![TypeInfo { dtype: x.dtype, shape: h }; outputs - 1]);
    Ok(types)
}

/// An activation of (x, alpha, beta).
type Function = fn(f32, f32, f32) -> f32;

/// An activation with its parameters.
#[derive(Clone, Copy)]
struct Activation {
    apply: Function,
    alpha: f32,
    beta: f32,
}

impl Activation {
    fn at(&self, x: f32) -> f32 {
        canonical_f32((self.apply)(x, self.alpha, self.beta))
    }
}

/// The activations of all directions.
fn activations(cx: &EvalCx<'_>, kind: Kind, directions: usize) -> Result<Vec<Activation>, OpError> {
    let bad = OpError::Attribute { name: "activations", why: "unknown, or not one a gate and direction" };
    let names: Vec<String> = match cx.attrs().strs("activations") {
        Some(list) => list.iter().map(|v| String::from_utf8_lossy(v).to_ascii_lowercase()).collect(),
        None => (0..directions).flat_map(|_| kind.activations().iter().map(|s| s.to_string())).collect(),
    };
    if names.len() != directions * kind.activations().len() {
        return Err(bad);
    }
    let (mut alphas, mut betas) = (
        cx.attrs().floats("activation_alpha").unwrap_or(&[]).iter(),
        cx.attrs().floats("activation_beta").unwrap_or(&[]).iter(),
    );
    let mut list = Vec::new();
    for name in &names {
        // Only the activations that have a parameter take one from the lists.
        let (apply, alpha, beta): (Function, Option<f32>, Option<f32>) = match name.as_str() {
            "sigmoid" => (|x, _, _| 1.0 / (1.0 + elementary::exp(-x)), None, None),
            "tanh" => (|x, _, _| elementary::tanh(x), None, None),
            "relu" => (|x, _, _| max_f32(x, 0.0), None, None),
            "affine" => (|x, a, b| a * x + b, Some(1.0), Some(0.0)),
            "leakyrelu" => (|x, a, _| if x >= 0.0 { x } else { a * x }, Some(0.01), None),
            "thresholdedrelu" => (|x, a, _| if x >= a { x } else { 0.0 }, Some(1.0), None),
            "scaledtanh" => (|x, a, b| a * elementary::tanh(b * x), Some(1.0), Some(1.0)),
            "hardsigmoid" => (|x, a, b| max_f32(0.0, min_f32(1.0, a * x + b)), Some(0.2), Some(0.5)),
            "elu" => (|x, a, _| if x < 0.0 { a * (elementary::exp(x) - 1.0) } else { x }, Some(1.0), None),
            "softsign" => (|x, _, _| x / (1.0 + x.abs()), None, None),
            "softplus" => {
                (|x, _, _| max_f32(x, 0.0) + elementary::log1p(elementary::exp(-x.abs())), None, None)
            }
            _ => return Err(bad),
        };
        let alpha = alpha.map_or(0.0, |default| alphas.next().copied().unwrap_or(default));
        let beta = beta.map_or(0.0, |default| betas.next().copied().unwrap_or(default));
        list.push(Activation { apply, alpha, beta });
    }
    Ok(list)
}

/// One direction's weights, at hand.
struct Cell<'a> {
    kind: Kind,
    input: usize,
    hidden: usize,
    w: &'a [f32],
    r: &'a [f32],
    b: Option<&'a [f32]>,
    peephole: Option<&'a [f32]>,
    acts: &'a [Activation],
    clip: Option<f32>,
    linear_before_reset: bool,
    input_forget: bool,
}

impl Cell<'_> {
    fn dot_x(&self, row: usize, x: &[f32]) -> f32 {
        let w = &self.w[row * self.input..(row + 1) * self.input];
        contract_f32(x.iter().copied().zip(w.iter().copied()), BLOCK)
    }

    fn dot_h(&self, row: usize, h: &[f32]) -> f32 {
        let r = &self.r[row * self.hidden..(row + 1) * self.hidden];
        contract_f32(h.iter().copied().zip(r.iter().copied()), BLOCK)
    }

    fn biases(&self, row: usize) -> (f32, f32) {
        self.b.map_or((0.0, 0.0), |b| (b[row], b[self.kind.gates() * self.hidden + row]))
    }

    /// `(x . W + h . R) + (Wb + Rb)` of one row of the gates.
    fn gate(&self, row: usize, x: &[f32], h: &[f32]) -> f32 {
        let (wb, rb) = self.biases(row);
        let sum = self.dot_x(row, x) + self.dot_h(row, h);
        if self.b.is_some() { sum + (wb + rb) } else { sum }
    }

    fn act(&self, which: usize, x: f32) -> f32 {
        let x = match self.clip {
            Some(c) => min_f32(max_f32(x, -c), c),
            None => x,
        };
        self.acts[which].at(x)
    }

    /// One step of one batch row: the new hidden state (and cell state).
    fn step(&self, x: &[f32], h: &[f32], c: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let n = self.hidden;
        match self.kind {
            Kind::Rnn => ((0..n).map(|j| self.act(0, self.gate(j, x, h))).collect(), Vec::new()),
            Kind::Gru => {
                let z: Vec<f32> = (0..n).map(|j| self.act(0, self.gate(j, x, h))).collect();
                let r: Vec<f32> = (0..n).map(|j| self.act(0, self.gate(n + j, x, h))).collect();
                let reset: Vec<f32> = r.iter().zip(h).map(|(r, h)| r * h).collect();
                let new = |j: usize| {
                    let row = 2 * n + j;
                    let (wb, rb) = self.biases(row);
                    let before = if self.linear_before_reset {
                        let linear = self.dot_h(row, h) + rb;
                        let sum = self.dot_x(row, x) + r[j] * linear;
                        if self.b.is_some() { sum + wb } else { sum }
                    } else {
                        self.gate(row, x, &reset)
                    };
                    let candidate = self.act(1, before);
                    canonical_f32((1.0 - z[j]) * candidate + z[j] * h[j])
                };
                ((0..n).map(new).collect(), Vec::new())
            }
            Kind::Lstm => {
                let peep = |k: usize, j: usize, c: f32, sum: f32| {
                    self.peephole.map_or(sum, |p| sum + p[k * n + j] * c)
                };
                let (mut next_h, mut next_c) = (Vec::with_capacity(n), Vec::with_capacity(n));
                for (j, &old) in c.iter().enumerate() {
                    let i = self.act(0, peep(0, j, old, self.gate(j, x, h)));
                    let f = if self.input_forget {
                        1.0 - i
                    } else {
                        self.act(0, peep(2, j, old, self.gate(2 * n + j, x, h)))
                    };
                    let g = self.act(1, self.gate(3 * n + j, x, h));
                    let cell = canonical_f32(f * old + i * g);
                    let o = self.act(0, peep(1, j, cell, self.gate(n + j, x, h)));
                    next_h.push(canonical_f32(o * self.acts[2].at(cell)));
                    next_c.push(cell);
                }
                (next_h, next_c)
            }
        }
    }
}

/// Optional input `index`, which must have `shape`.
fn shaped<'a>(cx: &EvalCx<'a>, index: usize, shape: &[usize]) -> Result<Option<&'a [f32]>, OpError> {
    let Some(t) = cx.opt(index) else { return Ok(None) };
    if t.shape() != shape {
        return Err(OpError::Shape {
            what: "a recurrent cell's input of a fitting shape",
            got: t.shape().to_vec(),
        });
    }
    cx.slice::<f32>(index).map(Some)
}

fn run(cx: &EvalCx<'_>, kind: Kind) -> Result<Vec<Tensor>, OpError> {
    let (xs, ws, rs) = (cx.input(0)?.shape(), cx.input(1)?.shape(), cx.input(2)?.shape());
    let batch_first = cx.attrs().int("layout", 0) == 1;
    let reversed = match cx.attrs().str("direction", "forward") {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        _ => return Err(OpError::Attribute { name: "direction", why: "unknown value" }),
    };
    let directions = reversed.len();
    let (&[a, b, input], &[_, _, hidden]) = (xs, rs) else {
        return Err(OpError::Shape { what: "a recurrent cell takes [seq, batch, input]", got: xs.to_vec() });
    };
    let (seq, batch) = if batch_first { (b, a) } else { (a, b) };
    let rows = kind.gates().saturating_mul(hidden);
    if ws != [directions, rows, input] || rs != [directions, rows, hidden] {
        return Err(OpError::Shape {
            what: "weights [directions, gates x hidden, input or hidden]",
            got: ws.to_vec(),
        });
    }
    let (x, w, r) = (cx.slice::<f32>(0)?, cx.slice::<f32>(1)?, cx.slice::<f32>(2)?);
    let bias = shaped(cx, 3, &[directions, 2 * rows])?;
    let state = if batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
    let (h0, c0) = (shaped(cx, 5, &state)?, if kind == Kind::Lstm { shaped(cx, 6, &state)? } else { None });
    let peepholes = if kind == Kind::Lstm { shaped(cx, 7, &[directions, 3 * hidden])? } else { None };
    let lengths = match cx.opt(4) {
        None => vec![seq; batch],
        Some(t) => {
            let lens = cx.slice::<i32>(4)?;
            let checked: Vec<usize> =
                lens.iter().filter_map(|&n| usize::try_from(n).ok()).filter(|&n| n <= seq).collect();
            if checked.len() != batch || lens.len() != batch {
                return Err(OpError::Shape {
                    what: "sequence_lens: one length up to seq a batch row",
                    got: t.shape().to_vec(),
                });
            }
            checked
        }
    };
    let acts = activations(cx, kind, directions)?;
    let y_shape =
        if batch_first { [batch, seq, directions, hidden] } else { [seq, directions, batch, hidden] };
    let mut y = vec![0.0_f32; cx.charge(&y_shape, DType::F32)?];
    let mut last_h = vec![0.0_f32; cx.charge(&state, DType::F32)?];
    let mut last_c = last_h.clone();
    let state_at =
        |d: usize, n: usize| (if batch_first { n * directions + d } else { d * batch + n }) * hidden;
    let per = kind.activations().len();
    for (d, &backward) in reversed.iter().enumerate() {
        let cell = Cell {
            kind,
            input,
            hidden,
            w: &w[d * rows * input..(d + 1) * rows * input],
            r: &r[d * rows * hidden..(d + 1) * rows * hidden],
            b: bias.map(|b| &b[d * 2 * rows..(d + 1) * 2 * rows]),
            peephole: peepholes.map(|p| &p[d * 3 * hidden..(d + 1) * 3 * hidden]),
            acts: &acts[d * per..(d + 1) * per],
            clip: cx.attrs().opt_float("clip").filter(|c| *c > 0.0),
            linear_before_reset: cx.attrs().int("linear_before_reset", 0) != 0,
            input_forget: cx.attrs().int("input_forget", 0) != 0,
        };
        for (n, &length) in lengths.iter().enumerate() {
            let at = state_at(d, n);
            let initial = |s: Option<&[f32]>| s.map_or(vec![0.0; hidden], |s| s[at..at + hidden].to_vec());
            let (mut h, mut c) = (initial(h0), initial(c0));
            for step in 0..length {
                let t = if backward { length - 1 - step } else { step };
                let from = if batch_first { n * seq + t } else { t * batch + n } * input;
                let (next_h, next_c) = cell.step(&x[from..from + input], &h, &c);
                h = next_h;
                if kind == Kind::Lstm {
                    c = next_c;
                }
                let to = if batch_first {
                    (n * seq + t) * directions + d
                } else {
                    (t * directions + d) * batch + n
                };
                y[to * hidden..(to + 1) * hidden].copy_from_slice(&h);
            }
            last_h[at..at + hidden].copy_from_slice(&h);
            last_c[at..at + hidden].copy_from_slice(&c);
        }
    }
    let mut outputs = vec![Tensor::from_vec(y_shape.to_vec(), y)?, Tensor::from_vec(state.to_vec(), last_h)?];
    if kind == Kind::Lstm {
        outputs.push(Tensor::from_vec(state.to_vec(), last_c)?);
    }
    Ok(outputs)
}
