//! What checking a proof may take (`spec/proof.md` §3.9). A verifier derives the circuit from a graph that a stranger wrote, and a few
//! bytes of a graph can ask for lists of any length. So whatever a graph sizes is paid for here, before it is made.

/// The most elements of one list.
pub const AT_ONCE: u64 = 1 << 22;
/// The most elements that a circuit keeps: links of maps, terms of expressions.
pub const KEPT: u64 = 1 << 23;
/// The most turns of all loops together.
pub const TURNS: u64 = 1 << 28;
/// The most nodes of a graph.
pub const NODES: usize = 1 << 16;
/// The most values of a graph.
pub const VALUES: usize = 1 << 18;

/// What a graph asks for beyond the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Exceeded {
    /// One list.
    #[error(
        "it asks a verifier for a list of {got} elements, and {AT_ONCE} are allowed: give it smaller tensors, or prove fewer requests at once"
    )]
    AtOnce {
        /// Its length.
        got: u64,
    },
    /// All that is kept.
    #[error(
        "with it a verifier would have to keep more than {KEPT} elements: use fewer operators that move elements singly"
    )]
    Kept,
    /// All loops.
    #[error("with it a verifier would have to compute for more than {TURNS} turns: prove a smaller model")]
    Turns,
}

/// What is left.
#[derive(Clone, Debug)]
pub struct Budget {
    kept: u64,
    turns: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { kept: KEPT, turns: TURNS }
    }
}

impl Budget {
    /// Pays for a loop of as many turns as the product of `counts`.
    ///
    /// # Errors
    /// [`Exceeded::Turns`].
    pub fn turns(&mut self, counts: &[usize]) -> Result<(), Exceeded> {
        self.turns = self.turns.checked_sub(product(counts)).ok_or(Exceeded::Turns)?;
        Ok(())
    }

    /// Pays for a list, soon dropped, of as many elements as the product of `counts`.
    ///
    /// # Errors
    /// [`Exceeded::AtOnce`], or as [`Budget::turns`].
    pub fn list(&mut self, counts: &[usize]) -> Result<(), Exceeded> {
        let got = product(counts);
        if got > AT_ONCE {
            return Err(Exceeded::AtOnce { got });
        }
        self.turns(counts)
    }

    /// Pays for a list that the circuit keeps, of as many elements as the product of `counts`.
    ///
    /// # Errors
    /// [`Exceeded::Kept`], or as [`Budget::list`].
    pub fn keep(&mut self, counts: &[usize]) -> Result<(), Exceeded> {
        self.list(counts)?;
        self.kept = self.kept.checked_sub(product(counts)).ok_or(Exceeded::Kept)?;
        Ok(())
    }
}

fn product(counts: &[usize]) -> u64 {
    // A factor of 0 must not hide what the others made before it.
    counts.iter().fold(1, |product: u64, &n| product.saturating_mul(n.max(1) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_error_and_products_do_not_overflow() {
        let mut budget = Budget::default();
        assert_eq!(budget.list(&[usize::MAX, 2]), Err(Exceeded::AtOnce { got: u64::MAX }));
        assert_eq!(budget.list(&[1 << 22, 0]), Ok(()));
        assert_eq!(budget.list(&[(1 << 22) + 1, 0]), Err(Exceeded::AtOnce { got: AT_ONCE + 1 }));
        assert_eq!(budget.turns(&[usize::MAX, usize::MAX]), Err(Exceeded::Turns));
        for _ in 0..2 {
            assert_eq!(budget.keep(&[1 << 11, 1 << 11]), Ok(()));
        }
        assert_eq!(budget.keep(&[]), Err(Exceeded::Kept), "an empty list is one, too");
        while budget.turns > AT_ONCE {
            assert_eq!(budget.list(&[1 << 22]), Ok(()));
        }
        assert_eq!(budget.list(&[1 << 22]), Err(Exceeded::Turns));
    }
}
