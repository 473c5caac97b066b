//! Maps: how one tensor's elements are those of another (`spec/proof.md` §2.2).
//!
//! A map says which elements `x` of a column an element `y` of the view is the sum of: a relation that is a product of
//! relations over groups of axes, so that the weight of a claim, `K(x) = sum over linked y of eq(z, y)`, is a product too.
//! Padding is never linked, except along identical axes.

use std::ops::AddAssign;
use std::sync::Arc;

use super::{Shape, log2};
use crate::budget::{Budget, Exceeded};
use crate::field::{E, PrimeCharacteristicRing};
use crate::mle;

/// How the elements of one group of axes are linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Links {
    /// One axis of the view is one axis of the column, padding included.
    Identity,
    /// Pairs (element of the view, element of the column), each an index into the padded axes of its group, row-major.
    Pairs(Arc<[(u32, u32)]>),
}

/// A group of axes that are linked together, independently of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Axes of the view, ascending.
    pub view: Vec<usize>,
    /// Axes of the column, ascending.
    pub column: Vec<usize>,
    /// The links.
    pub links: Links,
}

/// A linear map from a column to a view of it.
///
/// *Invariant*: every axis of the view and every axis of the column is in exactly one factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The view's shape.
    pub view: Shape,
    /// The column's shape.
    pub column: Shape,
    /// The groups of axes.
    pub factors: Vec<Factor>,
}

impl Factor {
    /// An axis that stays as it is.
    pub fn identity(view: usize, column: usize) -> Self {
        Self { view: vec![view], column: vec![column], links: Links::Identity }
    }

    /// Groups of axes with listed links, which are found in as many turns as the product of `counts`.
    ///
    /// # Errors
    /// More links than the budget allows.
    pub fn pairs(
        budget: &mut Budget,
        view: Vec<usize>,
        column: Vec<usize>,
        counts: &[usize],
        pairs: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<Self, Exceeded> {
        budget.keep(counts)?;
        // Tensors are far below 2^32 elements: `MAX_LOG` of the lowering.
        let pairs = pairs.into_iter().map(|(y, x)| (y as u32, x as u32)).collect();
        Ok(Self { view, column, links: Links::Pairs(pairs) })
    }
}

impl Map {
    /// The weights of the column's elements in the view's value at `point`: `K(x)` for every `x` of the padded column.
    pub fn weights(&self, point: &[E]) -> Vec<E> {
        let tables: Vec<Vec<E>> = self.factors.iter().map(|factor| self.table(factor, point)).collect();
        let strides = self.column.strides();
        let mut order: Vec<usize> = (0..self.factors.len()).collect();
        order.sort_by_key(|&i| self.factors[i].column.first().copied().unwrap_or(usize::MAX));
        let sorted: Vec<usize> = order.iter().flat_map(|&i| self.factors[i].column.iter().copied()).collect();
        if sorted.is_sorted() {
            // Groups of neighbouring axes: the outer product, most significant first.
            let mut out = vec![E::ONE];
            for i in order {
                let table = &tables[i];
                out = if let [scale] = table[..] {
                    out.into_iter().map(|x| x * scale).collect()
                } else if out.len() == 1 {
                    table.iter().map(|&y| out[0] * y).collect()
                } else {
                    out.iter().flat_map(|&x| table.iter().map(move |&y| x * y)).collect()
                };
            }
            return out;
        }
        let logs: Vec<usize> = self.column.logs().collect();
        (0..self.column.padded())
            .map(|x| {
                let one =
                    |(factor, table): (&Factor, &Vec<E>)| table[pick(x, &factor.column, &strides, &logs)];
                self.factors.iter().zip(&tables).map(one).fold(E::ONE, |product, w| product * w)
            })
            .collect()
    }

    /// The multilinear extension of the weights of `point` at `at`: what a verifier computes, in time linear in the links.
    pub fn evaluate(&self, point: &[E], at: &[E]) -> E {
        let mut product = E::ONE;
        for factor in &self.factors {
            let z = gather(point, &self.view, &factor.view);
            let x = gather(at, &self.column, &factor.column);
            product *= match &factor.links {
                Links::Identity => mle::eq(&z, &x),
                Links::Pairs(pairs) => {
                    let (z, x) = (mle::eq_table(&z), mle::eq_table(&x));
                    pairs.iter().map(|&(i, j)| z[i as usize] * x[j as usize]).sum()
                }
            };
        }
        product
    }

    /// Pays for one [`Map::evaluate`].
    ///
    /// # Errors
    /// More than the budget allows.
    pub fn pay(&self, budget: &mut Budget) -> Result<(), Exceeded> {
        for factor in &self.factors {
            if let Links::Pairs(pairs) = &factor.links {
                budget.list(&[group(&self.view, &factor.view)])?;
                budget.list(&[group(&self.column, &factor.column)])?;
                budget.turns(&[pairs.len()])?;
            }
        }
        Ok(())
    }

    /// The weights of one group's elements of the column.
    fn table(&self, factor: &Factor, point: &[E]) -> Vec<E> {
        let eq = mle::eq_table(&gather(point, &self.view, &factor.view));
        let Links::Pairs(pairs) = &factor.links else { return eq };
        let mut out = vec![E::ZERO; group(&self.column, &factor.column)];
        for &(y, x) in pairs.iter() {
            out[x as usize] += eq[y as usize];
        }
        out
    }

    /// Reads a padded column through the map.
    pub fn apply<T: Copy + Default + AddAssign>(&self, column: &[T]) -> Vec<T> {
        let mut out = vec![T::default(); self.view.padded()];
        let (view, from) = (self.view.strides(), self.column.strides());
        let offsets: Vec<Vec<(usize, usize)>> = self
            .factors
            .iter()
            .map(|factor| {
                let at = |y, x| {
                    (
                        spread(y, &factor.view, &self.view, &view),
                        spread(x, &factor.column, &self.column, &from),
                    )
                };
                match &factor.links {
                    Links::Identity => {
                        let size = factor.view.first().map_or(1, |&axis| 1 << log2(self.view.0[axis]));
                        (0..size).map(|i| at(i, i)).collect()
                    }
                    Links::Pairs(pairs) => pairs.iter().map(|&(y, x)| at(y as usize, x as usize)).collect(),
                }
            })
            .collect();
        add(&offsets, (0, 0), column, &mut out);
        out
    }

    /// The map that reads a view of `self` through `self`: `outer` maps `self.view` to its own view.
    ///
    /// Groups that share axes of the middle are joined, and their links composed.
    ///
    /// # Errors
    /// More links than the budget allows: those of a joined group may be all elements with all others.
    pub fn then(&self, outer: &Self, budget: &mut Budget) -> Result<Self, Exceeded> {
        let middle = self.view.0.len();
        budget.keep(&[middle, middle])?;
        let mut group_of: Vec<usize> = (0..middle).collect();
        let mut unite = |axes: &[usize]| {
            for pair in axes.windows(2) {
                let (a, b) = (group_of[pair[0]], group_of[pair[1]]);
                for group in &mut group_of {
                    if *group == b {
                        *group = a;
                    }
                }
            }
        };
        for axes in outer.factors.iter().map(|f| &f.column).chain(self.factors.iter().map(|f| &f.view)) {
            unite(axes);
        }
        let mut factors = Vec::new();
        // Groups without an axis of the middle stand alone.
        let empty =
            |pairs: &Links| if let Links::Pairs(pairs) = pairs { Arc::clone(pairs) } else { [].into() };
        for factor in outer.factors.iter().filter(|f| f.column.is_empty()) {
            let pairs = empty(&factor.links);
            factors.push(Factor {
                view: factor.view.clone(),
                column: Vec::new(),
                links: Links::Pairs(pairs),
            });
        }
        for factor in self.factors.iter().filter(|f| f.view.is_empty()) {
            let pairs = empty(&factor.links);
            factors.push(Factor {
                view: Vec::new(),
                column: factor.column.clone(),
                links: Links::Pairs(pairs),
            });
        }
        let mut names: Vec<usize> = group_of.clone();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let axes: Vec<usize> = (0..middle).filter(|&axis| group_of[axis] == name).collect();
            let of = |list: &[usize]| list.first().is_some_and(|axis| axes.contains(axis));
            let uppers: Vec<&Factor> = outer.factors.iter().filter(|f| of(&f.column)).collect();
            let lowers: Vec<&Factor> = self.factors.iter().filter(|f| of(&f.view)).collect();
            if let ([upper], [lower]) = (&uppers[..], &lowers[..])
                && upper.links == Links::Identity
                && lower.links == Links::Identity
            {
                factors.push(Factor::identity(upper.view[0], lower.column[0]));
                continue;
            }
            let (view, upper) = joined(&uppers, &axes, outer, &self.view, false, budget)?;
            let (column, mut lower) = joined(&lowers, &axes, self, &self.view, true, budget)?;
            // Links of the lower map by their element of the middle.
            lower.sort_unstable_by_key(|&(x, m)| (m, x));
            let below = |m: usize| {
                let start = lower.partition_point(|&(_, other)| other < m);
                let end = start + lower[start..].partition_point(|&(_, other)| other == m);
                &lower[start..end]
            };
            let count = upper.iter().map(|&(_, m)| below(m).len()).fold(0, usize::saturating_add);
            let pairs = upper.iter().flat_map(|&(y, m)| below(m).iter().map(move |&(x, _)| (y, x)));
            factors.push(Factor::pairs(budget, view, column, &[count], pairs)?);
        }
        Ok(Self { view: outer.view.clone(), column: self.column.clone(), factors })
    }

    /// Whether every axis of the view has only linked elements outside its padding.
    pub fn masks_padding(&self) -> bool {
        self.factors.iter().all(|factor| matches!(factor.links, Links::Pairs(_)))
    }
}

/// Far axes, and links (far element, element of the middle).
type Joined = (Vec<usize>, Vec<(usize, usize)>);

/// The far axes and the links (far element, element of the middle's `axes`) of several factors of one map, multiplied.
/// `lower`: the middle is the factors' view; otherwise their column.
fn joined(
    factors: &[&Factor],
    axes: &[usize],
    map: &Map,
    middle: &Shape,
    lower: bool,
    budget: &mut Budget,
) -> Result<Joined, Exceeded> {
    let far_shape = if lower { &map.column } else { &map.view };
    let sides = |f: &Factor| {
        if lower { (f.column.clone(), f.view.clone()) } else { (f.view.clone(), f.column.clone()) }
    };
    let mut far: Vec<usize> = factors.iter().flat_map(|f| sides(f).0).collect();
    far.sort_unstable();
    let count = |factor: &&Factor| match &factor.links {
        Links::Identity => group(far_shape, &sides(factor).0),
        Links::Pairs(pairs) => pairs.len(),
    };
    budget.list(&factors.iter().map(count).collect::<Vec<_>>())?;
    let mut links = vec![(0, 0)];
    for factor in factors {
        let (far_axes, middle_axes) = sides(factor);
        let pairs: Vec<(usize, usize)> = match &factor.links {
            Links::Identity => (0..group(far_shape, &far_axes)).map(|i| (i, i)).collect(),
            Links::Pairs(pairs) if lower => pairs.iter().map(|&(y, x)| (x as usize, y as usize)).collect(),
            Links::Pairs(pairs) => pairs.iter().map(|&(y, x)| (y as usize, x as usize)).collect(),
        };
        // Where an index into a factor's own axes lies among all axes of its side.
        let place = |own: &[usize], all: &[usize], shape: &Shape| {
            let sub = Shape(all.iter().map(|&axis| shape.0[axis]).collect());
            let at: Vec<usize> =
                own.iter().map(|axis| all.iter().position(|other| other == axis).unwrap_or(0)).collect();
            let strides = sub.strides();
            move |index| spread(index, &at, &sub, &strides)
        };
        let (to_far, to_middle) = (place(&far_axes, &far, far_shape), place(&middle_axes, axes, middle));
        let pairs: Vec<(usize, usize)> = pairs.into_iter().map(|(f, m)| (to_far(f), to_middle(m))).collect();
        links = links.iter().flat_map(|&(a, b)| pairs.iter().map(move |&(f, m)| (a + f, b + m))).collect();
    }
    Ok((far, links))
}

fn add<T: Copy + AddAssign>(
    offsets: &[Vec<(usize, usize)>],
    (y, x): (usize, usize),
    column: &[T],
    out: &mut [T],
) {
    match offsets {
        [] => out[y] += column[x],
        [last] => {
            for &(dy, dx) in last {
                out[y + dy] += column[x + dx];
            }
        }
        [first, rest @ ..] => {
            for &(dy, dx) in first {
                add(rest, (y + dy, x + dx), column, out);
            }
        }
    }
}

/// Elements of a padded group of axes.
fn group(shape: &Shape, axes: &[usize]) -> usize {
    axes.iter().map(|&axis| 1_usize << log2(shape.0[axis])).fold(1, usize::saturating_mul)
}

/// The coordinates of a point that belong to `axes`.
fn gather(point: &[E], shape: &Shape, axes: &[usize]) -> Vec<E> {
    let mut starts = Vec::with_capacity(shape.0.len());
    let mut at = 0;
    for log in shape.logs() {
        starts.push(at..at + log);
        at += log;
    }
    axes.iter().flat_map(|&axis| point[starts[axis].clone()].iter().copied()).collect()
}

/// The index into a group of axes that a padded flat index has.
fn pick(flat: usize, axes: &[usize], strides: &[usize], logs: &[usize]) -> usize {
    axes.iter()
        .fold(0, |index, &axis| (index << logs[axis]) | ((flat / strides[axis]) & ((1 << logs[axis]) - 1)))
}

/// The padded flat index that an index into a group of axes stands for.
fn spread(mut index: usize, axes: &[usize], shape: &Shape, strides: &[usize]) -> usize {
    let mut flat = 0;
    for &axis in axes.iter().rev() {
        let log = log2(shape.0[axis]);
        flat += (index & ((1 << log) - 1)) * strides[axis];
        index >>= log;
    }
    flat
}
