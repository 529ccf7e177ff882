//! Where mutants are in the text of a file.

use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A change that tests should notice.
#[derive(Clone)]
pub struct Mutant {
    pub number: usize,
    /// cargo-mutants' kind of change.
    pub genre: String,
    /// What stands in its place; of an operator that is left out nothing.
    pub replacement: String,
    /// Where what it replaces begins; both from 1 on.
    pub line: usize,
    pub column: usize,
}

/// How a piece of text is changed.
pub enum Kind {
    /// `left operator right`; `assigns` says whether it is a statement.
    Binary { left: Range<usize>, right: Range<usize>, assigns: bool, mutants: Vec<Mutant> },
    /// An operator before `operand`, which can be left out.
    Unary { operand: Range<usize>, mutants: Vec<Mutant> },
    /// The place before the first statement of a function that can return at once.
    Body(Vec<Mutant>),
    /// The place behind the pattern of an arm that can be passed over.
    Arm(Vec<Mutant>),
    /// The guard of such an arm.
    ArmWithGuard(Vec<Mutant>),
    /// A guard that can be something else.
    Guard(Vec<Mutant>),
}

/// A change of the text in `range`, which is empty where text is put in.
pub struct Edit {
    pub range: Range<usize>,
    pub kind: Kind,
}

impl Edit {
    /// The numbers of its mutants.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        let (Kind::Binary { mutants, .. }
        | Kind::Unary { mutants, .. }
        | Kind::Body(mutants)
        | Kind::Arm(mutants)
        | Kind::ArmWithGuard(mutants)
        | Kind::Guard(mutants)) = &self.kind;
        mutants.iter().map(|mutant| mutant.number)
    }
}

/// The edits for those of `mutants` that can be made at run time.
pub fn edits(file: &syn::File, mutants: &[Mutant]) -> Vec<Edit> {
    let mut finder = Finder { mutants, edits: Vec::new(), constants: 0 };
    finder.visit_file(file);
    finder.edits
}

struct Finder<'a> {
    mutants: &'a [Mutant],
    edits: Vec<Edit>,
    /// How many constants are around: nothing can be asked in them.
    constants: usize,
}

impl Finder<'_> {
    /// The mutants of a genre that begin where `span` does.
    fn at(&self, span: proc_macro2::Span, genre: &str) -> Vec<Mutant> {
        let start = span.start();
        let here = |mutant: &&Mutant| {
            self.constants == 0
                && mutant.genre == genre
                && (mutant.line, mutant.column) == (start.line, start.column + 1)
        };
        self.mutants.iter().filter(here).cloned().collect()
    }

    fn add(&mut self, mutants: Vec<Mutant>, range: Range<usize>, kind: impl FnOnce(Vec<Mutant>) -> Kind) {
        if !mutants.is_empty() {
            self.edits.push(Edit { range, kind: kind(mutants) });
        }
    }

    /// Looks at a function; `visit` goes on within it.
    fn function(&mut self, signature: &syn::Signature, block: Option<&syn::Block>, visit: impl FnOnce(&mut Self)) {
        let constant = usize::from(signature.constness.is_some());
        self.constants += constant;
        if let Some(first) = block.and_then(|block| block.stmts.first()) {
            let start = first.span().byte_range().start;
            self.add(self.at(first.span(), "FnValue"), start..start, Kind::Body);
        }
        visit(self);
        self.constants -= constant;
    }

    fn constant(&mut self, visit: impl FnOnce(&mut Self)) {
        self.constants += 1;
        visit(self);
        self.constants -= 1;
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, Some(&item.block), |this| visit::visit_item_fn(this, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, Some(&item.block), |this| visit::visit_impl_item_fn(this, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig, item.default.as_ref(), |this| visit::visit_trait_item_fn(this, item));
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.constant(|this| visit::visit_item_const(this, item));
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(|this| visit::visit_impl_item_const(this, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.constant(|this| visit::visit_item_static(this, item));
    }

    fn visit_expr_const(&mut self, expr: &'ast syn::ExprConst) {
        self.constant(|this| visit::visit_expr_const(this, expr));
    }

    fn visit_type(&mut self, _: &'ast syn::Type) {}

    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}

    fn visit_expr_repeat(&mut self, expr: &'ast syn::ExprRepeat) {
        self.visit_expr(&expr.expr); // its length is a constant
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        if !has_let(&expr.left) && !has_let(&expr.right) {
            let (left, right) = (expr.left.span().byte_range(), expr.right.span().byte_range());
            let assigns = is_assignment(&expr.op);
            let mutants = self.at(expr.op.span(), "BinaryOperator");
            self.add(mutants, left.start..right.end, |mutants| Kind::Binary { left, right, assigns, mutants });
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        let (operator, operand) = (expr.op.span(), expr.expr.span().byte_range());
        let range = operator.byte_range().start..operand.end;
        self.add(self.at(operator, "UnaryOperator"), range, |mutants| Kind::Unary { operand, mutants });
        visit::visit_expr_unary(self, expr);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let passed_over = self.at(arm.pat.span(), "MatchArm");
        match &arm.guard {
            None => {
                let end = arm.pat.span().byte_range().end;
                self.add(passed_over, end..end, Kind::Arm);
            }
            Some((_, guard)) if !has_let(guard) => {
                let range = guard.span().byte_range();
                self.add(passed_over, range.clone(), Kind::ArmWithGuard);
                self.add(self.at(guard.span(), "MatchArmGuard"), range, Kind::Guard);
            }
            Some(_) => {}
        }
        visit::visit_arm(self, arm);
    }
}

/// Whether an operand is a `let` of a chain: it cannot stand anywhere else.
fn has_let(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => {
            matches!(binary.op, syn::BinOp::And(_)) && (has_let(&binary.left) || has_let(&binary.right))
        }
        _ => false,
    }
}

fn is_assignment(operator: &syn::BinOp) -> bool {
    use syn::BinOp::*;
    matches!(
        operator,
        AddAssign(_)
            | SubAssign(_)
            | MulAssign(_)
            | DivAssign(_)
            | RemAssign(_)
            | BitXorAssign(_)
            | BitAndAssign(_)
            | BitOrAssign(_)
            | ShlAssign(_)
            | ShrAssign(_)
    )
}
