//! Windows that slide over spatial axes: what the convolutions and the pools share (`numeric.md` §4, §5).

use super::OpError;
use crate::graph::{Attrs, Dim};

/// The largest stride, dilation, pad or kernel size that is taken: far above any model, far below any overflow.
const LIMIT: i64 = 1 << 31;

/// How padding is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoPad {
    /// The `pads` attribute.
    Explicit,
    /// None.
    Valid,
    /// So that the output is `ceil(input / stride)`; an odd pad goes to the end.
    SameUpper,
    /// The same; an odd pad goes to the beginning.
    SameLower,
}

/// Kernel size, strides, dilations and pads of an operator, all positive (pads: not negative) and bounded.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Kernel size by axis.
    pub kernel: Vec<usize>,
    /// Stride by axis.
    pub strides: Vec<usize>,
    /// Dilation by axis.
    pub dilations: Vec<usize>,
    /// The explicit pads (begin, end) by axis.
    pub pads: Vec<(usize, usize)>,
    /// How padding is chosen.
    pub auto_pad: AutoPad,
    /// Whether output sizes round up.
    pub ceil: bool,
}

/// A [`Geometry`] placed on an input.
#[derive(Clone, Debug)]
pub struct Window {
    /// One entry a spatial axis.
    pub axes: Vec<Axis>,
}

/// One spatial axis of a [`Window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Input size.
    pub input: usize,
    /// Output size.
    pub output: usize,
    /// Kernel size.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Dilation.
    pub dilation: usize,
    /// Padding at the beginning.
    pub pad_begin: usize,
    /// Padding at the end.
    pub pad_end: usize,
}

impl Axis {
    /// The input position under kernel position `k` of output position `out`, or `None` in the padding.
    pub fn position(&self, out: usize, k: usize) -> Option<usize> {
        (out * self.stride + k * self.dilation).checked_sub(self.pad_begin).filter(|&i| i < self.input)
    }

    /// The kernel positions of output position `out` that lie inside the input.
    pub fn inside(&self, out: usize) -> std::ops::Range<usize> {
        let start = out * self.stride;
        let first = self.pad_begin.saturating_sub(start).div_ceil(self.dilation);
        let last = (self.pad_begin + self.input).saturating_sub(start).div_ceil(self.dilation);
        first.min(self.kernel)..last.min(self.kernel).max(first.min(self.kernel))
    }

    /// How many kernel positions of output position `out` lie inside the padded input.
    pub fn padded_count(&self, out: usize) -> usize {
        let end = self.pad_begin + self.input + self.pad_end;
        end.saturating_sub(out * self.stride).div_ceil(self.dilation).min(self.kernel)
    }
}

impl Window {
    /// Output sizes.
    pub fn output(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.output).collect()
    }
}

impl Geometry {
    /// Reads `strides`, `dilations`, `pads`, `auto_pad` and `ceil_mode` for a kernel of size `kernel`.
    pub fn parse(attrs: &Attrs, kernel: Vec<usize>) -> Result<Self, OpError> {
        let rank = kernel.len();
        if kernel.iter().any(|&k| k == 0 || i64::try_from(k).map_or(true, |k| k > LIMIT)) {
            return Err(OpError::Shape { what: "kernel sizes must be positive", got: kernel });
        }
        let auto_pad = match attrs.str("auto_pad", "NOTSET") {
            "NOTSET" | "" => AutoPad::Explicit,
            "VALID" => AutoPad::Valid,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            _ => return Err(OpError::Attribute { name: "auto_pad", why: "unknown value" }),
        };
        let pads = sizes(attrs, "pads", 2 * rank, 0)?;
        Ok(Self {
            kernel,
            strides: sizes(attrs, "strides", rank, 1)?,
            dilations: sizes(attrs, "dilations", rank, 1)?,
            pads: pads.iter().copied().zip(pads.iter().skip(rank).copied()).take(rank).collect(),
            auto_pad,
            ceil: attrs.int("ceil_mode", 0) != 0,
        })
    }

    /// Reads the same with the kernel size of the attribute `kernel_shape`, for an input of `rank` spatial axes.
    pub fn with_kernel_shape(attrs: &Attrs, rank: usize) -> Result<Self, OpError> {
        if attrs.ints("kernel_shape").is_none() {
            return Err(OpError::Attribute { name: "kernel_shape", why: "is missing" });
        }
        Self::parse(attrs, sizes(attrs, "kernel_shape", rank, 1)?)
    }

    /// Places axis `index` on an input size.
    pub fn axis(&self, index: usize, input: usize) -> Result<Axis, OpError> {
        let (kernel, stride, dilation) = (self.kernel[index], self.strides[index], self.dilations[index]);
        let too_small = OpError::Shape {
            what: "the kernel must fit the padded input (input, kernel, dilation)",
            got: vec![input, kernel, dilation],
        };
        let small = |n: usize| i64::try_from(n).ok().filter(|&n| n <= LIMIT * 512);
        let Some(size) = small(input) else { return Err(too_small) };
        let (s, d) = (stride as i64, dilation as i64);
        let Some(span) = (kernel as i64 - 1).checked_mul(d).map(|n| n + 1) else { return Err(too_small) };
        let (output, begin, end) = match self.auto_pad {
            AutoPad::SameUpper | AutoPad::SameLower => {
                let output = (size + s - 1) / s;
                let total = ((output - 1).max(0) * s + span - size).max(0);
                let half = total / 2;
                let (begin, end) = if self.auto_pad == AutoPad::SameUpper {
                    (half, total - half)
                } else {
                    (total - half, half)
                };
                (output, begin, end)
            }
            AutoPad::Explicit | AutoPad::Valid => {
                let explicit = self.auto_pad == AutoPad::Explicit;
                let (begin, end) = if explicit { self.pads[index] } else { (0, 0) };
                let (begin, end) = (begin as i64, end as i64);
                let room = size + begin + end - span;
                let ceil = self.ceil && explicit;
                let mut output = (if ceil { room + s - 1 } else { room }).div_euclid(s) + 1;
                // A last window that would start beyond the input and its leading pad is left out.
                if ceil && (output - 1) * s >= size + begin {
                    output -= 1;
                }
                if output <= 0 && size > 0 {
                    return Err(too_small);
                }
                (output.max(0), begin, end)
            }
        };
        Ok(Axis {
            input,
            output: output as usize,
            kernel,
            stride,
            dilation,
            pad_begin: begin as usize,
            pad_end: end as usize,
        })
    }

    /// Places the window on spatial sizes `input`.
    pub fn place(&self, input: &[usize]) -> Result<Window, OpError> {
        if input.len() != self.kernel.len() {
            return Err(OpError::Shape { what: "one spatial axis a kernel axis", got: input.to_vec() });
        }
        let axes = input.iter().enumerate().map(|(i, &n)| self.axis(i, n)).collect::<Result<_, _>>()?;
        Ok(Window { axes })
    }

    /// Output sizes as far as they are known.
    pub fn dims(&self, input: &[Dim]) -> Result<Vec<Dim>, OpError> {
        if input.len() != self.kernel.len() {
            return Err(OpError::Shape { what: "one spatial axis a kernel axis", got: self.kernel.clone() });
        }
        input
            .iter()
            .enumerate()
            .map(|(i, dim)| match dim {
                Dim::Known(n) => Ok(Dim::Known(self.axis(i, *n)?.output)),
                _ => Ok(Dim::Unknown),
            })
            .collect()
    }
}

/// The attribute `name` as `len` sizes of at least `least` (its default).
pub fn sizes(attrs: &Attrs, name: &'static str, len: usize, least: i64) -> Result<Vec<usize>, OpError> {
    match attrs.ints(name) {
        None => Ok(vec![least as usize; len]),
        Some(values) if values.len() != len => {
            Err(OpError::Attribute { name, why: "has the wrong number of entries" })
        }
        Some(values) => values
            .iter()
            .map(|&v| {
                if (least..=LIMIT).contains(&v) {
                    Ok(v as usize)
                } else {
                    Err(OpError::Attribute { name, why: "has an entry out of range" })
                }
            })
            .collect(),
    }
}

/// Calls `visit` with every index of `shape`, row-major.
pub fn each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Row-major strides of `shape`, in elements.
pub fn strides_of(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Attr;

    fn attrs(list: &[(&str, Attr)]) -> Attrs {
        Attrs(list.iter().map(|(k, v)| (k.to_string(), v.clone())).collect())
    }

    #[test]
    fn output_sizes() {
        let ints = |v: &[i64]| Attr::Ints(v.to_vec());
        let case = |list: &[(&str, Attr)], kernel: usize, input| {
            let axis = Geometry::parse(&attrs(list), vec![kernel]).unwrap().axis(0, input).unwrap();
            (axis.output, axis.pad_begin, axis.pad_end)
        };
        assert_eq!(case(&[], 3, 5), (3, 0, 0));
        assert_eq!(case(&[("pads", ints(&[1, 1])), ("strides", ints(&[2]))], 3, 5), (3, 1, 1));
        let upper = Attr::Str(b"SAME_UPPER".to_vec());
        assert_eq!(case(&[("auto_pad", upper), ("strides", ints(&[2]))], 3, 6), (3, 0, 1));
        let lower = Attr::Str(b"SAME_LOWER".to_vec());
        assert_eq!(case(&[("auto_pad", lower), ("strides", ints(&[2]))], 3, 6), (3, 1, 0));
        // ceil_mode: the second window would start in the trailing pad.
        let ceil = [("ceil_mode", Attr::Int(1)), ("strides", ints(&[2]))];
        assert_eq!(case(&ceil, 1, 2), (1, 0, 0));
        assert_eq!(case(&ceil, 3, 4), (2, 0, 0));
    }

    #[test]
    fn inside_agrees_with_position() {
        for (input, kernel, stride, dilation, pad) in
            [(5, 3, 2, 1, 1), (4, 2, 1, 3, 2), (1, 7, 1, 1, 3), (9, 3, 4, 2, 0)]
        {
            let list = [
                ("strides", Attr::Ints(vec![stride])),
                ("dilations", Attr::Ints(vec![dilation])),
                ("pads", Attr::Ints(vec![pad, pad])),
            ];
            let axis = Geometry::parse(&attrs(&list), vec![kernel]).unwrap().axis(0, input).unwrap();
            for out in 0..axis.output {
                let got: Vec<usize> = axis.inside(out).collect();
                let want: Vec<usize> = (0..kernel).filter(|&k| axis.position(out, k).is_some()).collect();
                assert_eq!(got, want, "{axis:?} at {out}");
            }
        }
    }

    #[test]
    fn hostile_attributes_are_errors() {
        for (name, values) in [
            ("strides", vec![0]),
            ("dilations", vec![-1]),
            ("pads", vec![i64::MAX, 0]),
            ("strides", vec![1, 1]),
        ] {
            assert!(Geometry::parse(&attrs(&[(name, Attr::Ints(values))]), vec![3]).is_err());
        }
        assert!(Geometry::parse(&Attrs::default(), vec![0]).is_err());
        let big =
            Geometry::parse(&attrs(&[("dilations", Attr::Ints(vec![1 << 31]))]), vec![1 << 31]).unwrap();
        assert!(big.axis(0, 4).is_err());
    }
}
