//! Every tensor's gradient against central differences of the f64 twin.

use super::*;
use crate::kernels::rope::{Scaling, Waves};
use crate::model::block::Place;
use crate::model::config::LayerType;
use crate::model::rows::{Labels, Rows};
use std::ops::Range;
use subgpt_testkit::gpt::{self, BlockMasks};
use subgpt_testkit::gradcheck::{assert_close, gradient, wide};
use subgpt_testkit::rows::{gelu_erf, gelu_tanh};

pub(super) const B: usize = 2;
pub(super) const T: usize = 5;

/// One target is ignored.
pub(super) fn targets(ids: &[u32]) -> Vec<i64> {
    let mut targets: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    targets.rotate_left(1);
    targets[3] = -100;
    targets
}

/// The masks that the next backward pass of `model` will use, as factors.
fn masks(model: &Gpt) -> Option<gpt::Masks> {
    let masks = model.masks(T)?;
    let (n, c, heads) = (B * T, model.config.n_embd, B * model.config.n_head);
    let rows = |place: Place| (0..n * c).map(|i| f64::from(masks.at(place).factor(i as u64))).collect();
    let probabilities = |layer: usize| {
        let index = |i: usize| i / T * T.next_multiple_of(4) + i % T;
        (0..heads * T * T).map(|i| f64::from(masks.at(Place::Probabilities(layer)).factor(index(i) as u64))).collect()
    };
    let blocks = (0..model.config.n_layer).map(|layer| BlockMasks {
        probabilities: probabilities(layer),
        attention: rows(Place::Attention(layer)),
        mlp: rows(Place::Mlp(layer)),
    });
    Some(gpt::Masks { embedding: rows(Place::Embedding), blocks: blocks.collect() })
}

fn stretch(waves: Waves) -> f64 {
    match waves.scaling {
        None => 1.0,
        Some(Scaling::Linear { factor }) => factor,
        Some(Scaling::Llama3 { .. }) => panic!("the twin has no such scaling"),
    }
}

/// The f64 twin of a model over two rows of five tokens.
pub(super) fn twin<'a>(model: &Gpt, place: &'a dyn Fn(&str) -> Option<Range<usize>>) -> gpt::Gpt<'a> {
    let config = &model.config;
    gpt::Gpt {
        batch: B,
        t: T,
        vocab_size: config.vocab_size,
        n_layer: config.n_layer,
        n_head: config.n_head,
        n_embd: config.n_embd,
        n_inner: config.inner(),
        n_kv_head: config.kv_heads(),
        activation: match config.activation {
            Activation::Gelu => gelu_erf,
            Activation::GeluNew => gelu_tanh,
            Activation::Relu2 => |x| x.max(0.0).powi(2),
            Activation::Silu => |x| x / (1.0 + (-x).exp()),
        },
        gated: config.mlp == Mlp::Gated,
        rms: config.norm == Norm::RmsNorm,
        eps: f64::from(config.norm_eps),
        head_dim: config.head_dim(),
        offset: f64::from(config.gain_offset()),
        post_norm: config.post_norm,
        embedding_scale: if config.scale_embeddings { (config.n_embd as f64).sqrt() } else { 1.0 },
        waves: (0..config.n_layer).map(|layer| config.waves(layer).map(|w| (w.theta, stretch(w)))).collect(),
        windows: (0..config.n_layer).map(|layer| config.window(layer)).collect(),
        scale: config.query_pre_attn_scalar.map(|scalar| 1.0 / scalar.sqrt()),
        softcaps: [config.attn_softcap, config.logit_softcap].map(|cap| cap.map(f64::from)),
        qk_norm: config.qk_norm,
        llama: !config.is_gpt2(),
        masks: masks(model),
        place,
    }
}

fn check(config: Config) {
    let mut model = lively(config.clone());
    let ids = some_ids(B * T, config.vocab_size);
    let targets = targets(&ids);
    let layout = model.layout.clone();
    let place = |name: &str| layout.get(name).map(|tensor| tensor.range.clone());
    let twin = twin(&model, &place);
    let params = wide(&model.params);
    let got = model.backward(Rows::new(&ids, B, T), Labels::new(&targets, -100), 1.0).unwrap();
    let want = twin.loss(&params, &ids, &targets, -100);
    assert!((got - want).abs() < 2e-6 * want, "loss {got} instead of {want}");
    let want = gradient(&params, |params| twin.loss(params, &ids, &targets, -100));
    let got = model.grads().unwrap();
    for tensor in &layout.tensors {
        // In units of the tensor's largest gradient: a wrong term must not hide behind small numbers.
        let want = &want[tensor.range.clone()];
        let largest = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(largest > 1e-3, "{} does not matter here: {largest}", tensor.name);
        let scaled: Vec<f32> = got[tensor.range.clone()].iter().map(|g| g / largest as f32).collect();
        let want: Vec<f64> = want.iter().map(|w| w / largest).collect();
        // The slope of a squared ReLU has a kink, over which central differences are less exact.
        let tolerance = if config.activation == Activation::Relu2 { 2e-4 } else { 3e-5 };
        assert_close(&tensor.name, &scaled, &want, tolerance);
    }
}

#[test]
fn with_biases_and_tied() {
    check(tiny());
}

#[test]
fn without_biases_and_untied() {
    check(Config { bias: false, tie_embeddings: false, activation: Activation::Gelu, ..tiny() });
}

#[test]
fn with_dropout_replayed_from_its_counters() {
    check(Config { dropout: 0.3, ..tiny() });
    check(Config { dropout: 0.3, bias: false, tie_embeddings: false, n_inner: None, ..tiny() });
}

#[test]
fn later_blocks() {
    check(modern());
    check(Config { dropout: 0.3, tie_embeddings: true, bias: true, ..modern() });
    let plain = Config { activation: Activation::Relu2, mlp: Mlp::Plain, norm_gain: false, ..modern() };
    check(plain.clone());
    check(Config { position: Position::Learned, n_kv_head: None, ..plain.clone() });
    check(Config { qk_norm: false, norm: Norm::LayerNorm, norm_gain: true, bias: true, ..plain });
}

#[test]
fn blocks_with_all_that_gemma_has() {
    check(gemma());
    check(Config { dropout: 0.3, bias: true, tie_embeddings: false, qk_norm: false, ..gemma() });
    let types = Some(vec![LayerType::FullAttention, LayerType::SlidingAttention]);
    check(Config { layer_types: types, activation: Activation::Gelu, norm_unit_offset: false, ..gemma() });
}

#[test]
fn heads_of_their_own_width_biases_of_queries_and_blocks_without_rotation() {
    check(Config { head_dim: Some(6), qkv_bias: Some(true), qk_norm: false, ..modern() });
    check(Config { rope_layers: Some(vec![true, false]), sliding_window: Some(2), ..modern() });
    check(Config { rope_layers: Some(vec![false, true]), qk_norm: false, ..modern() });
    check(Config { head_dim: Some(5), bias: false, ..tiny() });
}

#[test]
fn blocks_computed_once_more_give_the_same_bits() {
    for config in [tiny(), modern(), Config { dropout: 0.3, ..modern() }, Config { dropout: 0.3, ..gemma() }] {
        for precision in [Precision::Float32, Precision::Bfloat16] {
            let ids = some_ids(B * T, config.vocab_size);
            let targets = targets(&ids);
            let [kept, recomputed] = [false, true].map(|again| {
                let mut model = lively(config.clone());
                model.set_precision(precision);
                model.gradient_checkpointing = again;
                let loss = model.backward(Rows::new(&ids, B, T), Labels::new(&targets, -100), 1.0).unwrap();
                (loss.to_bits(), bits(model.grads().unwrap()))
            });
            assert!(kept == recomputed);
        }
    }
}

#[test]
fn one_head_a_coordinate() {
    check(Config { n_head: 6, ..tiny() });
}

#[test]
fn gradients_add_up_and_can_be_scaled() {
    let mut model = lively(tiny());
    let ids = some_ids(B * T, 11);
    let targets = targets(&ids);
    model.backward(Rows::new(&ids, B, T), Labels::new(&targets, -100), 1.0).unwrap();
    let once = model.grads().unwrap().to_vec();
    model.zero_grad();
    assert!(model.grads().unwrap().iter().all(|&g| g == 0.0));
    for _ in 0..2 {
        model.backward(Rows::new(&ids, B, T), Labels::new(&targets, -100), 0.5).unwrap();
    }
    assert_close("gradients", model.grads().unwrap(), &wide(&once), 1e-6);
}

#[test]
fn a_pass_is_replayed_from_its_number_and_others_differ() {
    let ids = some_ids(B * T, 11);
    let targets = targets(&ids);
    let mut model = lively(Config { dropout: 0.5, ..tiny() });
    let mut pass = |number: u64| {
        model.passes = number;
        model.zero_grad();
        let loss = model.backward(Rows::new(&ids, B, T), Labels::new(&targets, -100), 1.0).unwrap();
        assert_eq!(model.passes, number.wrapping_add(1));
        (loss.to_bits(), bits(model.grads().unwrap()))
    };
    let first = pass(0);
    assert!(first != pass(1) && first == pass(0));
    pass(u64::MAX);
}

/// A little wider than [`tiny`], so that work is shared among threads.
fn wider(config: Config) -> Config {
    Config { vocab_size: 300, block_size: 40, n_embd: 48, n_inner: None, ..config }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let ids = some_ids(8 * 40, 300);
    let targets: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    for config in [wider(Config { dropout: 0.1, ..tiny() }), wider(modern())] {
        for precision in [Precision::Float32, Precision::Bfloat16] {
            let run = |threads| {
                crate::parallel::set_num_threads(threads);
                let mut model = lively(config.clone());
                model.set_precision(precision);
                let loss = model.backward(Rows::new(&ids, 8, 40), Labels::new(&targets, -100), 1.0).unwrap();
                (loss.to_bits(), bits(model.grads().unwrap()))
            };
            let one = run(1);
            assert!([2, 3, 5, 8].into_iter().all(|threads| run(threads) == one));
        }
    }
    crate::parallel::set_num_threads(2);
}

#[test]
fn bfloat16_products_stay_close_to_float32() {
    let norm = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let ids = some_ids(4 * 40, 300);
    let targets: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    for config in [wider(tiny()), wider(Config { dropout: 0.2, ..modern() })] {
        // Weights of the usual size: rounding is amplified by sharp softmaxes.
        let run = |precision| {
            let mut model = Gpt::new(config.clone(), 3).unwrap();
            let noise = Noise::new(5).normal(model.params.len(), 0.1);
            model.params_mut().iter_mut().zip(noise).for_each(|(p, v)| *p += v);
            model.set_precision(precision);
            (model.backward(Rows::new(&ids, 4, 40), Labels::new(&targets, -100), 1.0).unwrap(), model)
        };
        let ((exact, mut wide), (loss, mut narrow)) = (run(Precision::Float32), run(Precision::Bfloat16));
        assert!(loss != exact && (loss - exact).abs() < 2e-3 * exact, "{loss} instead of {exact}");
        for tensor in &wide.layout.tensors.clone() {
            let [want, got] = [&mut wide, &mut narrow].map(|model| &model.grads().unwrap()[tensor.range.clone()]);
            let difference: Vec<f32> = want.iter().zip(got).map(|(a, b)| a - b).collect();
            let error = norm(&difference) / norm(want);
            assert!(error < 0.06, "{}: {error}", tensor.name);
        }
    }
}

#[test]
fn weights_are_packed_again_after_every_change() {
    let ids = some_ids(4 * 40, 300);
    let targets: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    for precision in [Precision::Float32, Precision::Bfloat16] {
        let fresh = |params: Option<&[f32]>| {
            let mut model = lively(wider(modern()));
            model.set_precision(precision);
            params.inspect(|params| model.params_mut().copy_from_slice(params));
            model
        };
        let mut model = fresh(None);
        model.backward(Rows::new(&ids, 4, 40), Labels::new(&targets, -100), 1.0).unwrap();
        model.params_mut().iter_mut().for_each(|p| *p *= 1.01);
        model.zero_grad();
        let loss = model.backward(Rows::new(&ids, 4, 40), Labels::new(&targets, -100), 1.0).unwrap();
        let mut other = fresh(Some(model.params()));
        assert_eq!(other.backward(Rows::new(&ids, 4, 40), Labels::new(&targets, -100), 1.0).unwrap(), loss);
        assert!(bits(other.grads().unwrap()) == bits(model.grads().unwrap()));
        assert_eq!(
            other.loss(&mut Arena::new(), Rows::new(&ids, 4, 40), Labels::new(&targets, -100)).unwrap().to_bits(),
            { model.loss(&mut Arena::new(), Rows::new(&ids, 4, 40), Labels::new(&targets, -100)).unwrap().to_bits() }
        );
    }
}
