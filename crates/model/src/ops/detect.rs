//! Operators of detection and of sliding blocks: NonMaxSuppression, RoiAlign, Col2Im.

use hallmark_receipt::{DType, Tensor};

use super::half::in_f32;
use super::window::{each_index, sizes, strides_of};
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{canonical_f32, max_f32, min_f32};

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::Onnx,
        name: "NonMaxSuppression",
        versions: &[10, 11],
        attrs: &["center_point_box"],
        infer: |_| {
            Ok(vec![TypeInfo { dtype: Some(DType::I64), shape: Some(vec![Dim::Unknown, Dim::Known(3)]) }])
        },
        eval: non_max_suppression,
    },
    OpDef {
        domain: Domain::Onnx,
        name: "RoiAlign",
        versions: &[10, 16, 22],
        attrs: &[
            "coordinate_transformation_mode",
            "mode",
            "output_height",
            "output_width",
            "sampling_ratio",
            "spatial_scale",
        ],
        infer: infer_roi_align,
        eval: |cx| in_f32(cx, roi_align),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "Col2Im",
        versions: &[18],
        attrs: &["dilations", "pads", "strides"],
        infer: |cx| Ok(vec![TypeInfo { dtype: cx.input(0)?.dtype, shape: None }]),
        eval: |cx| in_f32(cx, col2im),
    },
];

fn shape_error<T>(what: &'static str, got: &[usize]) -> Result<T, OpError> {
    Err(OpError::Shape { what, got: got.to_vec() })
}

/// A box as (y1, x1, y2, x2), low before high.
fn corners(b: &[f32], centered: bool) -> [f32; 4] {
    if centered {
        let (half_w, half_h) = (b[2] / 2.0, b[3] / 2.0);
        [b[1] - half_h, b[0] - half_w, b[1] + half_h, b[0] + half_w]
    } else {
        [min_f32(b[0], b[2]), min_f32(b[1], b[3]), max_f32(b[0], b[2]), max_f32(b[1], b[3])]
    }
}

/// Whether the intersection of two boxes is more than `threshold` of their union.
fn overlaps(a: &[f32; 4], b: &[f32; 4], threshold: f32) -> bool {
    let height = min_f32(a[2], b[2]) - max_f32(a[0], b[0]);
    let width = min_f32(a[3], b[3]) - max_f32(a[1], b[1]);
    if !(height > 0.0 && width > 0.0) {
        return false;
    }
    let common = width * height;
    let area = |b: &[f32; 4]| (b[3] - b[1]) * (b[2] - b[0]);
    let union = (area(a) + area(b)) - common;
    common > 0.0 && area(a) > 0.0 && area(b) > 0.0 && union > 0.0 && common / union > threshold
}

/// An optional input of one element.
fn optional<T: hallmark_receipt::Element + Copy>(
    cx: &EvalCx<'_>,
    index: usize,
) -> Result<Option<T>, OpError> {
    match cx.opt(index) {
        None => Ok(None),
        Some(t) => match cx.slice::<T>(index)? {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            _ => shape_error("an input of one element", t.shape()),
        },
    }
}

/// Boxes by falling score (the lower index first among equals), each taken unless it overlaps one taken before.
fn non_max_suppression(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (boxes, scores) = (cx.slice::<f32>(0)?, cx.slice::<f32>(1)?);
    let (bs, ss) = (cx.input(0)?.shape(), cx.input(1)?.shape());
    let (&[batches, count, 4], &[score_batches, classes, score_count]) = (bs, ss) else {
        return shape_error("NonMaxSuppression: boxes [N, B, 4] and scores [N, C, B]", ss);
    };
    if batches != score_batches || count != score_count {
        return shape_error("NonMaxSuppression: boxes [N, B, 4] and scores [N, C, B]", ss);
    }
    let most = usize::try_from(optional::<i64>(cx, 2)?.unwrap_or(0).max(0)).unwrap_or(usize::MAX);
    let overlap = optional::<f32>(cx, 3)?.unwrap_or(0.0);
    let least = optional::<f32>(cx, 4)?;
    let centered = cx.attrs().int("center_point_box", 0) != 0;
    let mut picked: Vec<i64> = Vec::new();
    for n in 0..batches {
        let boxes: Vec<[f32; 4]> =
            (0..count).map(|i| corners(&boxes[(n * count + i) * 4..][..4], centered)).collect();
        for class in 0..classes {
            let scores = &scores[(n * classes + class) * count..][..count];
            let mut order: Vec<usize> =
                (0..count).filter(|&i| least.is_none_or(|least| scores[i] > least)).collect();
            // NaN sorts last.
            let key = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] + 0.0 };
            order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
            let mut taken: Vec<usize> = Vec::new();
            for i in order {
                if taken.len() >= most {
                    break;
                }
                if !taken.iter().any(|&t| overlaps(&boxes[i], &boxes[t], overlap)) {
                    taken.push(i);
                    picked.extend([n as i64, class as i64, i as i64]);
                }
            }
            cx.charge(&[picked.len()], DType::I64)?;
        }
    }
    Ok(vec![Tensor::from_vec(vec![picked.len() / 3, 3], picked)?])
}

fn size_attr(value: i64, name: &'static str) -> Result<usize, OpError> {
    match usize::try_from(value) {
        Ok(n) if (1..=1 << 20).contains(&n) => Ok(n),
        _ => Err(OpError::Attribute { name, why: "must be positive and moderate" }),
    }
}

fn infer_roi_align(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let channels = x.shape.as_ref().and_then(|d| d.get(1)).cloned().unwrap_or(Dim::Unknown);
    let rois = cx.input(1)?.shape.as_ref().and_then(|d| d.first()).cloned().unwrap_or(Dim::Unknown);
    let height = size_attr(cx.attrs().int("output_height", 1), "output_height")?;
    let width = size_attr(cx.attrs().int("output_width", 1), "output_width")?;
    let shape = Some(vec![rois, channels, Dim::Known(height), Dim::Known(width)]);
    Ok(vec![TypeInfo { dtype: x.dtype, shape }])
}

/// The four neighbours of a sampling point with their weights: (low y, low x, high y, high x, wy, wx of the high ones).
fn neighbours(y: f32, x: f32, height: usize, width: usize) -> Option<[(usize, f32); 4]> {
    if y.is_nan() || x.is_nan() || y < -1.0 || y > height as f32 || x < -1.0 || x > width as f32 {
        return None;
    }
    let axis = |v: f32, size: usize| {
        let v = max_f32(v, 0.0);
        let low = v as usize;
        if low >= size - 1 { (size - 1, size - 1, 0.0) } else { (low, low + 1, v - low as f32) }
    };
    let ((y0, y1, ly), (x0, x1, lx)) = (axis(y, height), axis(x, width));
    let (hy, hx) = (1.0 - ly, 1.0 - lx);
    Some([
        (y0 * width + x0, hy * hx),
        (y0 * width + x1, hy * lx),
        (y1 * width + x0, ly * hx),
        (y1 * width + x1, ly * lx),
    ])
}

fn roi_align(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, rois) = (cx.slice::<f32>(0)?, cx.slice::<f32>(1)?);
    let batch_of = cx.slice::<i64>(2)?;
    let (&[batches, channels, height, width], &[count, 4]) = (cx.input(0)?.shape(), cx.input(1)?.shape())
    else {
        return shape_error("RoiAlign: [N, C, H, W] and rois [R, 4]", cx.input(1)?.shape());
    };
    if batch_of.len() != count || height == 0 || width == 0 {
        return shape_error("RoiAlign: one batch index a roi", cx.input(2)?.shape());
    }
    let attrs = cx.attrs();
    let out_h = size_attr(attrs.int("output_height", 1), "output_height")?;
    let out_w = size_attr(attrs.int("output_width", 1), "output_width")?;
    let ratio = attrs.int("sampling_ratio", 0);
    let scale = attrs.float("spatial_scale", 1.0);
    // Before version 16 there was no half pixel.
    let default = if cx.node.version < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = attrs.str("coordinate_transformation_mode", default) == "half_pixel";
    let average = match attrs.str("mode", "avg") {
        "avg" => true,
        "max" => false,
        _ => return Err(OpError::Attribute { name: "mode", why: "unknown value" }),
    };
    let shape = vec![count, channels, out_h, out_w];
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    for (roi, &batch) in rois.chunks_exact(4).zip(batch_of) {
        let batch = usize::try_from(batch)
            .ok()
            .filter(|&b| b < batches)
            .ok_or(OpError::Value { what: "RoiAlign: a batch index inside the batch", got: batch })?;
        let offset = if half_pixel { 0.5 } else { 0.0 };
        let at = |i: usize| roi[i] * scale - offset;
        let (x0, y0) = (at(0), at(1));
        let (mut roi_w, mut roi_h) = (at(2) - x0, at(3) - y0);
        if !half_pixel {
            (roi_w, roi_h) = (max_f32(roi_w, 1.0), max_f32(roi_h, 1.0));
        }
        let (bin_h, bin_w) = (roi_h / out_h as f32, roi_w / out_w as f32);
        let grid = |bin: f32| if ratio > 0 { ratio as usize } else { bin.ceil().max(0.0) as usize };
        let (grid_h, grid_w) = (grid(bin_h), grid(bin_w));
        let samples = grid_h.saturating_mul(grid_w);
        cx.charge(&[samples, out_h, out_w], DType::F32)?;
        for c in 0..channels {
            let plane = &x[(batch * channels + c) * height * width..][..height * width];
            for ph in 0..out_h {
                for pw in 0..out_w {
                    let (mut sum, mut best) = (0.0_f32, None);
                    for iy in 0..grid_h {
                        let sy = (y0 + ph as f32 * bin_h) + (iy as f32 + 0.5) * bin_h / grid_h as f32;
                        for ix in 0..grid_w {
                            let sx = (x0 + pw as f32 * bin_w) + (ix as f32 + 0.5) * bin_w / grid_w as f32;
                            let parts = neighbours(sy, sx, height, width)
                                .map_or([0.0; 4], |n| n.map(|(i, w)| w * plane[i]));
                            sum += ((parts[0] + parts[1]) + parts[2]) + parts[3];
                            let top = parts.into_iter().fold(f32::NEG_INFINITY, max_f32);
                            best = Some(best.map_or(top, |b| max_f32(b, top)));
                        }
                    }
                    let value = if average { sum / samples.max(1) as f32 } else { best.unwrap_or(0.0) };
                    y.push(canonical_f32(value));
                }
            }
        }
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}

fn positive(cx: &EvalCx<'_>, index: usize) -> Result<Vec<usize>, OpError> {
    let values = cx.slice::<i64>(index)?;
    let sizes: Vec<usize> = values.iter().filter_map(|&v| usize::try_from(v).ok()).collect();
    let fine = |&v: &usize| (1..=1 << 31).contains(&v);
    if sizes.len() == values.len() && !sizes.is_empty() && sizes.iter().all(fine) {
        Ok(sizes)
    } else {
        Err(OpError::Value { what: "Col2Im: positive sizes", got: values.first().copied().unwrap_or(0) })
    }
}

/// Sums sliding blocks into an image: kernel positions ascending, then block positions.
fn col2im(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, xs) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let (image, block) = (positive(cx, 1)?, positive(cx, 2)?);
    let rank = image.len();
    let attrs = cx.attrs();
    let (strides, dilations) = (sizes(attrs, "strides", rank, 1)?, sizes(attrs, "dilations", rank, 1)?);
    let pads = sizes(attrs, "pads", 2 * rank, 0)?;
    let volume = block.iter().try_fold(1_usize, |n, &b| n.checked_mul(b)).unwrap_or(0);
    let &[batch, rows, columns] = xs else { return shape_error("Col2Im: [N, C x block, L]", xs) };
    if block.len() != rank || volume == 0 || rows % volume != 0 {
        return shape_error("Col2Im: [N, C x block, L]", xs);
    }
    let mut counts = Vec::new();
    for i in 0..rank {
        let padded = image[i] + pads[i] + pads[i + rank];
        let Some(room) = padded.checked_sub((block[i] - 1).saturating_mul(dilations[i]).saturating_add(1))
        else {
            return shape_error("Col2Im: blocks that fit the padded image", &block);
        };
        counts.push(room / strides[i] + 1);
    }
    if counts.iter().try_fold(1_usize, |n, &c| n.checked_mul(c)) != Some(columns) {
        return shape_error("Col2Im: as many columns as blocks", xs);
    }
    let channels = rows / volume;
    let mut shape = vec![batch, channels];
    shape.extend(&image);
    let mut y = vec![0.0_f32; cx.charge(&shape, DType::F32)?];
    let (plane, steps) = (image.iter().product::<usize>(), strides_of(&image));
    for p in 0..batch * channels {
        let mut from = p * volume * columns;
        each_index(&block, |k| {
            each_index(&counts, |out| {
                let at = (0..rank).try_fold(0, |at, i| {
                    let place = (out[i] * strides[i] + k[i] * dilations[i]).checked_sub(pads[i])?;
                    (place < image[i]).then_some(at + place * steps[i])
                });
                if let Some(at) = at {
                    y[p * plane + at] = canonical_f32(y[p * plane + at] + x[from]);
                }
                from += 1;
            });
        });
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}
