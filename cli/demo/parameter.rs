//! The network's trained tensors, in one list whose order never changes.

use std::ops::{Index, IndexMut};

use super::rng::SplitMix64;

pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) value: Vec<f32>,
    pub(super) gradient: Vec<f32>,
}

/// A parameter's place in the list; layers hold these instead of references.
#[derive(Clone, Copy)]
pub(super) struct ParameterId(usize);

#[derive(Default)]
pub(super) struct Parameters {
    list: Vec<Parameter>,
}

impl Parameters {
    /// Adds a parameter drawn uniformly from `(-bound, bound)`.
    pub(super) fn uniform(
        &mut self,
        name: String,
        shape: &[usize],
        bound: f32,
        rng: &mut SplitMix64,
    ) -> ParameterId {
        let len = shape.iter().product();
        let value = (0..len).map(|_| (2.0 * rng.unit() - 1.0) * bound).collect();
        self.add(name, shape, value)
    }

    /// Adds a vector whose elements are all `value`.
    pub(super) fn constant(&mut self, name: String, len: usize, value: f32) -> ParameterId {
        self.add(name, &[len], vec![value; len])
    }

    fn add(&mut self, name: String, shape: &[usize], value: Vec<f32>) -> ParameterId {
        self.list.push(Parameter {
            name,
            shape: shape.to_vec(),
            gradient: vec![0.0; value.len()],
            value,
        });
        ParameterId(self.list.len() - 1)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Parameter> {
        self.list.iter_mut()
    }

    pub(super) fn clear_gradients(&mut self) {
        for parameter in &mut self.list {
            parameter.gradient.fill(0.0);
        }
    }
}

impl Index<ParameterId> for Parameters {
    type Output = Parameter;

    fn index(&self, id: ParameterId) -> &Parameter {
        &self.list[id.0]
    }
}

impl IndexMut<ParameterId> for Parameters {
    fn index_mut(&mut self, id: ParameterId) -> &mut Parameter {
        &mut self.list[id.0]
    }
}
