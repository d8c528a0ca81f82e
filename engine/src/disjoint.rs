//! Disjoint sets of numbers below a bound: union-find with path halving (Tarjan and van Leeuwen,
//! 1984).

/// Which of some numbers belong together.
pub(crate) struct Disjoint {
    up: Vec<usize>,
}

impl Disjoint {
    /// Numbers below `count`, each alone.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            up: (0..count).collect(),
        }
    }

    /// The least number of a number's set.
    pub(crate) fn root(&mut self, mut number: usize) -> usize {
        while let Some(up) = self.up.get(number).copied().filter(|up| *up != number) {
            let top = self.up.get(up).copied().unwrap_or(up);
            if let Some(slot) = self.up.get_mut(number) {
                *slot = top;
            }
            number = up;
        }
        number
    }

    /// Makes two numbers' sets one.
    pub(crate) fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if let Some(slot) = self.up.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
    }

    /// The sets, each ascending, in the order of their least numbers.
    pub(crate) fn sets(mut self) -> Vec<Vec<usize>> {
        let mut sets: Vec<Vec<usize>> = vec![Vec::new(); self.up.len()];
        for number in 0..sets.len() {
            let root = self.root(number);
            if let Some(set) = sets.get_mut(root) {
                set.push(number);
            }
        }
        sets.retain(|set| !set.is_empty());
        sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_together() {
        let mut disjoint = Disjoint::new(7);
        for (a, b) in [(5, 3), (1, 6), (3, 6), (4, 4)] {
            disjoint.join(a, b);
        }
        assert_eq!(disjoint.root(6), 1);
        assert_eq!(
            disjoint.sets(),
            [vec![0], vec![1, 3, 5, 6], vec![2], vec![4]]
        );
    }
}
