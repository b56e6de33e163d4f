//! Two linear layers around an activation.

use zoo_kernels::activation::Activation;
use zoo_model::{MlpActivation, NodeKind};

use super::build::{Builder, Made, Place};
use crate::operator::{Operator, Point};

/// Where an MLP's parameters are.
struct Places {
    up: (Place, Option<Place>),
    down: (Place, Option<Place>),
    hidden: usize,
    kind: Option<Activation>,
}

impl Places {
    fn of(at: usize, kind: &NodeKind) -> Self {
        let &NodeKind::Mlp { hidden, activation, bias, .. } = kind else {
            unreachable!("only an MLP is one");
        };
        let place = |place: usize| (at, place);
        let kind = match activation {
            MlpActivation::Swiglu => None,
            MlpActivation::Gelu => Some(Activation::Gelu),
            MlpActivation::Relu => Some(Activation::Relu),
            MlpActivation::Silu => Some(Activation::Silu),
        };
        match bias {
            false => Self { up: (place(0), None), down: (place(1), None), hidden, kind },
            true => {
                let (up, down) = ((place(0), Some(place(1))), (place(2), Some(place(3))));
                Self { up, down, hidden, kind }
            }
        }
    }
}

impl Builder {
    pub fn mlp(&mut self, at: usize, kind: &NodeKind, inputs: &[usize]) -> (usize, Made) {
        let Places { up, down, hidden, kind } = Places::of(at, kind);
        let x = inputs[0];
        let inner = self.linear("inner", x, up, None);
        let point = kind.map_or(Point::Swiglu { hidden }, Point::Activate);
        let shape = [self.tokens, hidden];
        let activated = self.tensor("activated", &shape, Operator::Point(point), &[inner]);
        let y = self.linear("output", activated, down, inputs.get(1).copied());
        (y, Made::Mlp { x, inner, activated })
    }

    pub fn mlp_backward(
        &mut self,
        at: usize,
        kind: &NodeKind,
        slots: &[usize],
        (x, inner, activated): (usize, usize, usize),
        dy: usize,
    ) {
        let Places { up, down, hidden, kind } = Places::of(at, kind);
        let dactivated = self.linear_input("gradient of activated", dy, down.0, None);
        let point = kind.map_or(Point::SwigluGradient { hidden }, Point::ActivationGradient);
        let shape = self.tensors[inner].shape.clone();
        let inputs = [inner, dactivated];
        let dinner = self.tensor("gradient of inner", &shape, Operator::Point(point), &inputs);
        self.linear_gradients(dy, activated, down);
        if let Some(&residual) = slots.get(1) {
            self.give(residual, dy);
        }
        self.linear_gradients(dinner, x, up);
        let dx = self.linear_input("gradient of the input", dinner, up.0, self.arrived[slots[0]]);
        self.arrived[slots[0]] = Some(dx);
    }
}
