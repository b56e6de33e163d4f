//! Muon: momentum, and five Newton-Schulz steps for every matrix that is stacked in a parameter.

use std::collections::BTreeMap;

use zoo_kernels::optimizer::{Muon, QUINTIC, STEPS};
use zoo_model::{MuonSettings, NodeDefinition, ParameterDefinition, Profile, Role};

use super::Pass;
use super::build::{Builder, Place};
use super::step::SQUARES_BLOCK;
use crate::operator::{Along, Fold, Operator, Point, Product, Row, Tally, What};

/// How a parameter is moved.
pub struct Moved {
    momentum: Point,
    along: Along,
    /// The direction of every matrix.
    directions: Vec<usize>,
}

impl Builder {
    /// The directions of all parameters that are matrices of hidden layers.
    pub fn muon(
        &mut self,
        settings: &MuonSettings,
        lr: f64,
        nodes: &[NodeDefinition],
        factor: Option<usize>,
    ) -> BTreeMap<Place, Moved> {
        let &MuonSettings { momentum, nesterov, adamw } = settings;
        let muon = Muon { lr, momentum, nesterov, weight_decay: adamw.weight_decay };
        let mut moved = BTreeMap::new();
        for (at, node) in nodes.iter().enumerate() {
            for (place, parameter) in node.parameters().into_iter().enumerate() {
                if let Role::Matrix(rows) = &parameter.role {
                    moved.insert((at, place), self.directions(&muon, (at, place), &parameter, rows, factor));
                }
            }
            self.end_group(&node.id, Pass::Orthogonalise);
        }
        moved
    }

    fn directions(
        &mut self,
        muon: &Muon,
        place: Place,
        parameter: &ParameterDefinition,
        rows_of: &[usize],
        factor: Option<usize>,
    ) -> Moved {
        let momentum = Point::Momentum { beta: muon.momentum as f32, clips: factor.is_some() };
        let (shape, columns) = (&parameter.shape, parameter.shape[1]);
        let before = self.state[&place][1];
        let mut average = |name: &str, before: usize| {
            let inputs: Vec<usize> = [before, self.gradients[&place]].into_iter().chain(factor).collect();
            self.tensor(&format!("{name} of {}", parameter.name), shape, Operator::Point(momentum), &inputs)
        };
        let mut update = average("momentum", before);
        if muon.nesterov {
            update = average("momentum ahead", update);
        }
        let (mut first, mut matrices, mut directions) = (0, Vec::new(), Vec::new());
        for &rows in rows_of {
            let part = Operator::Point(Point::Part { first });
            let name = format!("matrix of {}", parameter.name);
            let matrix = self.tensor(&name, &[rows, columns], part, &[update]);
            directions.push(self.orthogonal(matrix));
            let (_, step) = muon.factors((rows, columns));
            matrices.push((first, step));
            first += rows * columns;
        }
        let (keep, _) = muon.factors((1, 1));
        Moved { momentum, along: Along { keep, matrices }, directions }
    }

    /// A nearly orthogonal matrix, always by way of the smaller Gram matrix.
    fn orthogonal(&mut self, matrix: usize) -> usize {
        const PROFILE: Profile = Profile::F32Exact;
        let shape = self.tensors[matrix].shape.clone();
        let [rows, columns] = shape[..] else { unreachable!("a matrix has rows and columns") };
        let (words, small) = (rows * columns, rows.min(columns));
        let blocks = words.div_ceil(SQUARES_BLOCK);
        let squares = Operator::Row(Row::of(Fold::Squares, SQUARES_BLOCK, words));
        let squares = self.tensor("squares", &[blocks], squares, &[matrix]);
        let norm = Operator::Tally(Tally { what: What::InverseRoot, lengths: vec![blocks] });
        let norm = self.tensor("inverse norm", &[1], norm, &[squares]);
        let mut x = self.tensor("iterate", &shape, Operator::Point(Point::Scaled), &[matrix, norm]);
        let [a, b, c] = QUINTIC;
        let is_wide = rows <= columns;
        for _ in 0..STEPS {
            let gram = match is_wide {
                true => Product::forward(PROFILE, small, columns, small, false),
                false => Product::backward_weight(PROFILE, rows, small, small),
            };
            let gram = self.tensor("gram", &[small, small], Operator::Product(gram), &[x, x]);
            let square = Operator::Product(Product::backward_input(PROFILE, small, small, small, false));
            let square = self.tensor("gram squared", &[small, small], square, &[gram, gram]);
            let polynomial = Operator::Point(Point::Combined { a: b, b: c });
            let polynomial = self.tensor("polynomial", &[small, small], polynomial, &[gram, square]);
            let (product, inputs) = match is_wide {
                true => (Product::backward_input(PROFILE, small, columns, small, false), [polynomial, x]),
                false => (Product::backward_input(PROFILE, rows, small, small, false), [x, polynomial]),
            };
            let product = self.tensor("product", &shape, Operator::Product(product), &inputs);
            let next = Operator::Point(Point::Combined { a, b: 1.0 });
            x = self.tensor("iterate", &shape, next, &[x, product]);
        }
        x
    }

    /// A parameter and its momentum after the step.
    pub fn move_along(
        &mut self,
        place: Place,
        parameter: &ParameterDefinition,
        moved: &Moved,
        factor: Option<usize>,
    ) {
        let [value, momentum] = self.state[&place][..] else { unreachable!("Muon remembers a momentum") };
        let inputs: Vec<usize> = [value].iter().chain(&moved.directions).copied().collect();
        let along = Operator::Along(moved.along.clone());
        let value = self.tensor(parameter.name, &parameter.shape, along, &inputs);
        let inputs: Vec<usize> = [momentum, self.gradients[&place]].into_iter().chain(factor).collect();
        let name = format!("{} momentum", parameter.name);
        let after = self.tensor(&name, &parameter.shape, Operator::Point(moved.momentum), &inputs);
        self.state.insert(place, vec![value, after]);
    }
}
