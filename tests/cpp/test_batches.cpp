// The batch solver's dense kernels against Eigen, and its iterations' memory.
#include <doctest/doctest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "allocations.hpp"
#include "batches/batches.hpp"
#include "batches/coverage.hpp"
#include "batches/dense_kernels.hpp"
#include "common/thread_pool.hpp"

using namespace cliquesim;

namespace {

using Matrix = Eigen::MatrixXd;

Columns view(Matrix& A) {
    return {A.data(), A.rows(), A.cols(), A.rows()};
}

// Small sizes are multiplied where they are, large ones are packed in blocks; some have edges.
const std::vector<std::int64_t> sizes = {1, 7, 8, 23, 24, 64, 97, 200, 264, 301, 600};

}  // namespace

TEST_CASE("a product adds to what is there") {
    PackBuffers buffers;
    for (const std::int64_t m : sizes) {
        for (const std::int64_t depth : {1, 8, 100, 300}) {
            for (const std::int64_t n : {1, 8, 13, 72, 300}) {
                Matrix A = Matrix::Random(m, depth), B = Matrix::Random(depth, n);
                Matrix Bt = B.transpose(), C = Matrix::Random(m, n);
                const Matrix expected = C - 0.5 * A * B;
                Matrix C2 = C;
                add_product(-0.5, view(A), plain(view(B)), view(C), buffers);
                add_product(-0.5, view(A), transposed(view(Bt)), view(C2), buffers);
                CHECK((C - expected).cwiseAbs().maxCoeff() < 1e-12);
                CHECK((C2 - expected).cwiseAbs().maxCoeff() < 1e-12);
                Matrix C3 = C + 0.5 * A * B;
                add_product(-0.5, PackedLeft(view(A)), plain(view(B)), view(C3), buffers);
                CHECK((C3 - expected).cwiseAbs().maxCoeff() < 1e-12);
            }
        }
    }
}

TEST_CASE("a positive definite matrix: factor, inverse and products with triangles") {
    PackBuffers buffers;
    for (const std::int64_t n : {8, 16, 96, 104, 200, 296, 304, 600}) {
        const Matrix R = Matrix::Random(n, n + 3);
        const Matrix A = R * R.transpose() + Matrix::Identity(n, n);
        Matrix L = A, U = Matrix::Constant(n, n, 7.0), inverse = Matrix::Zero(n, n);
        REQUIRE(factor_positive(view(L), view(U), buffers));
        const Matrix reference = A.llt().matrixL();
        CHECK((Matrix(L.triangularView<Eigen::Lower>()) - reference).cwiseAbs().maxCoeff() < 1e-9);
        CHECK(Matrix(U.triangularView<Eigen::StrictlyLower>()).isZero(0));
        CHECK((U.transpose() * reference - Matrix::Identity(n, n)).cwiseAbs().maxCoeff() < 1e-9);
        add_product(1, view(U), transposed(view(U)), view(inverse), buffers, Triangle::both);
        const Matrix full = inverse.selfadjointView<Eigen::Lower>();
        CHECK((full * A - Matrix::Identity(n, n)).cwiseAbs().maxCoeff() < 1e-8);

        const Eigen::VectorXd x = Eigen::VectorXd::Random(n);
        Eigen::VectorXd y(n), z(n);
        multiply_upper_transposed(view(U), x.data(), y.data());
        CHECK((y - U.transpose() * x).cwiseAbs().maxCoeff() < 1e-12);
        multiply_upper(view(U), y.data(), z.data());
        CHECK((A * z - x).cwiseAbs().maxCoeff() < 1e-8);

        Matrix indefinite = A;
        indefinite(n - 1, n - 1) = -1;
        CHECK_FALSE(factor_positive(view(indefinite), view(U), buffers));
        indefinite(0, 0) = std::numeric_limits<double>::quiet_NaN();
        CHECK_FALSE(factor_positive(view(indefinite), view(U), buffers));
    }
}

TEST_CASE("a general matrix that needs exchanges of rows") {
    PackBuffers buffers;
    for (const std::int64_t n : {1, 2, 31, 32, 33, 104, 200}) {
        Matrix A = Matrix::Random(n, n);
        if (n > 1) A(0, 0) = 0;
        Matrix factors = A;
        std::vector<std::int64_t> pivots(static_cast<std::size_t>(n));
        const Eigen::VectorXd b = Eigen::VectorXd::Random(n);
        Eigen::VectorXd x = b;
        factor_general(view(factors), pivots.data(), buffers);
        solve_general(view(factors), pivots.data(), x.data());
        CHECK((A * x - b).cwiseAbs().maxCoeff() < 1e-9 * (1 + x.cwiseAbs().maxCoeff()));
    }
}

#ifdef __linux__
TEST_CASE("the interior point's iterations allocate nothing") {
    constexpr std::int64_t B = 5, K = 60, N = 90;
    std::mt19937 random(3);
    std::vector<std::int64_t> indptr{0}, indices;
    for (std::int64_t k = 0; k < K; ++k) {
        std::vector<std::int64_t> all(N);
        std::iota(all.begin(), all.end(), 0);
        std::shuffle(all.begin(), all.end(), random);
        std::sort(all.begin(), all.begin() + 6);
        indices.insert(indices.end(), all.begin(), all.begin() + 6);
        indptr.push_back(std::ssize(indices));
    }
    const std::vector<double> weights(N, 1.0);
    const Matrix V = Matrix::Random(K, 10), S = V * V.transpose();
    BatchProblem problem;
    problem.coverage = {K, N, indptr, indices, weights};
    problem.similarity = {S.data(), K, K};
    problem.lambda1 = 0.1;
    problem.lambda2 = 1;
    problem.smoothing = 0.1;
    const std::vector<double> linear(B * K, 0.05), start(B * K, 10.0 / K);
    for (const Regime regime : {Regime::dense, Regime::iterative}) {
        for (const int threads : {1, 2}) {
            const auto allocations_of = [&](int iterations) {
                RelaxedOptions options;
                options.tolerance = 1e-14;  // never reached
                options.max_iterations = iterations;
                options.regime = regime;
                const std::int64_t before = allocations();
                const RelaxedSolution found =
                    solve_relaxed(problem, {linear.data(), B, K}, {start.data(), B, K}, 10, options,
                                  Context{threads, nullptr});
                const std::int64_t made = allocations() - before;
                CHECK(found.iterations == iterations);
                return made;
            };
            allocations_of(1);  // what the C++ library sets up once
            const std::int64_t few = allocations_of(2), many = allocations_of(7);
            CHECK(few > 0);  // or nothing is counted
            CHECK(many == few);
        }
    }
}
#endif
